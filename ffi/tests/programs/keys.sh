# Keys, certificates, signatures, encryption and digests; prints only what is the same every time.
set -eu
seq 1 200000 >plain
openssl version
openssl dgst -sha256 -r plain
openssl dgst -sha3-512 -r plain
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.pem
for key in rsa ec; do
    openssl pkey -in $key.pem -pubout -out $key.pub
    openssl dgst -sha256 -sign $key.pem -out $key.sig plain
    openssl dgst -sha256 -verify $key.pub -signature $key.sig plain
    openssl req -x509 -new -key $key.pem -subj /CN=$key.example.org -days 1 -out $key.crt
    openssl verify -CAfile $key.crt $key.crt
    openssl x509 -in $key.crt -noout -subject
done
for cipher in aes-256-cbc chacha20; do
    openssl enc -$cipher -pbkdf2 -pass pass:secret -in plain -out sealed
    openssl enc -d -$cipher -pbkdf2 -pass pass:secret -in sealed | cmp - plain
    echo "$cipher round trip"
done
openssl cms -encrypt -aes256 -in plain -binary -outform DER -out mail rsa.crt
openssl cms -decrypt -binary -inform DER -in mail -inkey rsa.pem -recip rsa.crt | cmp - plain
openssl speed -seconds 1 -mlock sha256 >/dev/null 2>&1 || openssl speed -seconds 1 sha256 >/dev/null 2>&1
echo done
