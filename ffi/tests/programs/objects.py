# Objects by the hundred thousand, threads, buffers that grow, pickling, compression, hashing.
import collections, hashlib, json, pickle, re, threading, zlib

N = 150_000
table = {f"key{i}": {"n": i, "text": str(i) * (i % 7), "list": list(range(i % 11))} for i in range(N)}
for i in range(0, N, 3):
    del table[f"key{i}"]
print(len(table), sum(v["n"] for v in table.values()))

text = json.dumps(table, sort_keys=True)
print(len(text), hashlib.sha256(text.encode()).hexdigest())
again = json.loads(text)
print(again == table)
blob = pickle.dumps(again)
print(hashlib.sha256(zlib.decompress(zlib.compress(blob))).hexdigest() == hashlib.sha256(blob).hexdigest())
print(collections.Counter(re.findall(r'"text": "(\d\d)', text)).most_common(5))

results = [None] * 4


def work(k):
    grown = bytearray()
    for i in range(20_000):
        grown += b"%d:%d," % (k, i)
        if i % 1000 == 999:
            del grown[: len(grown) // 2]
    results[k] = hashlib.md5(grown).hexdigest()


threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print(results)
