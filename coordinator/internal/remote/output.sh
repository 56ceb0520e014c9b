# Delivers what a run prints into a pipe, after one word: go; later (it has not come to that yet, ask
# again); none (there is nothing to read, or somebody else does).
turns=0
until [ -p "$job/output" ]; do
	if [ -e "$job/started" ] || [ -e "$job/exit" ]; then echo none; exit; fi
	turns=$((turns + 1))
	if [ "$turns" -gt 100 ]; then echo later; exit; fi
	nap 5
done
mkdir "$job/reader" 2>/dev/null || { echo none; exit; }
turns=0
until [ -e "$job/writer" ]; do
	turns=$((turns + 1))
	if [ -e "$job/exit" ] || [ "$turns" -gt 200 ]; then echo none; exit; fi
	nap 5
done
exec 0<"$job/output"
rm -f "$job/output"
echo go
exec cat
