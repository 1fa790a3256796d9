# Arrays, associative arrays, substitutions, subshells, functions and here-documents: bash's own use of the heap.
set -eu
declare -A count
words=()
for i in $(seq 1 3000); do
    word="w$((i * 7919 % 613))"
    words+=("$word")
    count[$word]=$((${count[$word]:-0} + 1))
done
echo "${#words[@]} words, ${#count[@]} different"
for word in $(printf '%s\n' "${!count[@]}" | sort | head -20); do echo "$word ${count[$word]}"; done

text=
for i in $(seq 1 500); do text+="line $i of a string that grows;"; done
echo "${#text} ${text:1000:40} ${text//line/LINE}" | cksum

fibonacci() { if (($1 < 2)); then echo "$1"; else echo $(($(fibonacci $(($1 - 1))) + $(fibonacci $(($1 - 2))))); fi; }
fibonacci 8

while read -r a b; do echo "$b $a"; done <<END | sort
one 1
two 2
three 3
END
for i in 1 2 3 4 5; do (
    local_words=("${words[@]:i * 100:50}")
    echo "${local_words[*]}" | tr ' ' '\n' | sort | uniq -c | cksum
) & wait $!; done
