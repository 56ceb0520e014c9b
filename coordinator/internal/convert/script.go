package convert

import (
	"bytes"
	"context"
	"fmt"
	"strings"
)

// quote makes a word of text for a shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// maxSaid bounds what is remembered of what a script prints, of each output.
const maxSaid = 64 << 10

// tail keeps the end of what is written to it.
type tail struct{ bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	n, err := t.Buffer.Write(p)
	if over := t.Len() - maxSaid; over > 0 {
		t.Next(over)
	}
	return n, err
}

// said is what became of a script.
type said struct {
	code      int
	out, errs string
}

// last returns the last line that the script printed, of what went wrong first.
func (s said) last() string {
	for _, text := range []string{s.errs, s.out} {
		text = strings.TrimSpace(text)
		if line := strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:]); line != "" {
			return printable(line)
		}
	}
	return fmt.Sprintf("exit code %d", s.code)
}

// printable makes a host's words fit for a sentence.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	const limit = 400
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "..."
	}
	return strings.TrimRight(text, ". ")
}

// run runs a script. Its first lines give names to values, quoted.
func run(ctx context.Context, shell Shell, script string, input []byte, values ...string) (said, error) {
	var head strings.Builder
	for i := 0; i+1 < len(values); i += 2 {
		head.WriteString(values[i] + "=" + quote(values[i+1]) + "\n")
	}
	var out, errs tail
	code, err := shell.Exec(ctx, head.String()+script, input, &out, &errs)
	return said{code: code, out: out.String(), errs: errs.String()}, err
}

// lookScript prints what a conversion has to know, and changes nothing.
const lookScript = `
dir=${binary%/*}
while [ ! -d "$dir" ]; do dir=${dir%/*}; dir=${dir:-/}; done
echo "system=$(uname -s)"
echo "machine=$(uname -m)"
echo "uid=$(id -u)"
[ -w "$dir" ] && echo "writable=yes"
set -- $(df -Pk "$dir" | tail -n 1)
echo "free=$4"
[ -d /run/systemd/system ] && echo "systemd=yes"
[ -d /run/systemd/system ] && systemctl is-active --quiet borgfleet-agent && echo "running=yes"
command -v setsid >/dev/null 2>&1 && echo "setsid=yes"
[ -e "$config" ] && echo "config=yes"
echo "borg=$(command -v "$borg")"
:
`

// copyScript writes its input beside the place of the binary, and prints its
// SHA-256 if it can.
const copyScript = `
umask 077
mkdir -p "${binary%/*}" && cat >"$binary.new" || exit 1
if command -v sha256sum >/dev/null 2>&1; then sha256sum <"$binary.new"
elif command -v openssl >/dev/null 2>&1; then openssl dgst -sha256 <"$binary.new"
fi
:
`

// installScript tries the new binary, and puts it into its place.
const installScript = `
chmod 755 "$binary.new" && "$binary.new" version && mv -f "$binary.new" "$binary"
`

// settingsScript writes the configuration unless there is one.
const settingsScript = `
[ -e "$config" ] && exit 0
umask 077
mkdir -p "${config%/*}" && cat >"$config.new" && mv "$config.new" "$config"
`

// memoryScript gives the agent's borg what borg has kept on this host so far:
// keys, and what it knows of repositories; and its cache, where there is none
// yet: without a copy if that can be, else if a copy is no trouble. It prints what
// there was.
const memoryScript = `
umask 077
copied() {
  set -- $(du -sk "$base/.cache/borg" 2>/dev/null) 0
  size=$1
  set -- $(df -Pk "$data" | tail -n 1)
  [ "$size" -gt 0 ] && [ "$size" -lt "$most" ] && [ "$((size * 2))" -lt "${4:-0}" ] || return 1
  rm -rf "$data/borg/.cache/borg"
  cp -Rp "$base/.cache/borg" "$data/borg/.cache/" 2>/dev/null
}
mkdir -p "$data/borg" && chmod 700 "$data" "$data/borg" || exit 1
if [ -n "$id" ] && [ ! -e "$data/host-id" ]; then
  printf '%s\n' "$id" >"$data/host-id" || exit 1
fi
if [ -d "$base/.config/borg" ]; then
  mkdir -p "$data/borg/.config" && cp -Rp "$base/.config/borg" "$data/borg/.config/" || exit 1
  echo keys
fi
if [ -d "$base/.cache/borg" ] && [ ! -e "$data/borg/.cache" ]; then
  mkdir "$data/borg/.cache" || exit 1
  if cp -Rpl "$base/.cache/borg" "$data/borg/.cache/" 2>/dev/null || copied; then echo cache
  else rm -rf "$data/borg/.cache"; fi
fi
:
`

// enrolScript gives the agent its identity; its input is the token. The agent
// makes itself a service where there is systemd.
const enrolScript = `
if [ -n "$state" ]; then set -- --data "$state"; else set --; fi
exec "$binary" enroll --config "$config" --token - "$@"
`

// startScript starts the agent where no service manager does, and prints its
// process.
const startScript = `
umask 077
detach=
command -v setsid >/dev/null 2>&1 && detach=setsid
command -v nohup >/dev/null 2>&1 && [ -z "$detach" ] && detach=nohup
$detach "$binary" run --config "$config" </dev/null >>"$data/agent.log" 2>&1 &
echo "$!"
`

// wordsScript prints what the agent last said of itself.
const wordsScript = `
if [ -n "$pid" ]; then tail -n 3 "$data/agent.log"
else journalctl -u borgfleet-agent -n 3 -o cat
fi
`

// undoScript stops the agent, and removes what only it would need.
const undoScript = `
rm -f "$binary.new" "$config.new"
[ -n "$cache" ] && rm -rf "$data/borg/.cache"
if [ -n "$pid" ]; then kill "$pid"
elif [ -n "$service" ]; then systemctl disable --now --quiet borgfleet-agent
fi
:
`
