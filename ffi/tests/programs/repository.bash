# A repository made of the files of a directory, over several commits; cloned, repacked, checked. usage: DIRECTORY
set -eu
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@example.org
export GIT_CONFIG_NOSYSTEM=1
git init --quiet --initial-branch=main work
cd work
mkdir src
for revision in $(seq 1 25); do
    export GIT_AUTHOR_DATE="$((1700000000 + revision * 1000)) +0000"
    export GIT_COMMITTER_DATE=$GIT_AUTHOR_DATE
    for i in $(seq 1 40); do
        seq "$((i * revision % 97))" "$((i * 50))" >"src/file$i"
    done
    if [ "$revision" = 10 ]; then cp -r "$1"/src src/tree; fi
    git add --all
    git commit --quiet --message "revision $revision"
done
cd ..
git clone --quiet --no-local --bare work clone.git
cd clone.git
git gc --quiet --aggressive --prune=now
git fsck --full --strict 2>&1
git rev-parse main
git log --stat --format='%h %s' | cksum
git diff main~20 main | cksum
git count-objects -v | grep -E '^(count|in-pack|packs|garbage)'
cd ..
git clone --quiet clone.git again
cd again
git checkout --quiet main~5
git grep --count 1234 | sort | cksum
