package sshlink_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink"
	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink/sshtest"
	"github.com/borgfleet/borgfleet/shared/job"
)

// ash is a login shell that is busybox under one of its names.
func ash(t *testing.T) string {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "sshlink")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	shell := filepath.Join(dir, "ash")
	if err := os.Symlink(busybox, shell); err != nil {
		t.Fatal(err)
	}
	return shell
}

// noisy is what start files print, on both outputs and without a line's end.
const noisy = "echo welcome to the machine\necho 1>&2 you have mail\nprintf 'no end'\n"

func TestLoginShells(t *testing.T) {
	tests := map[string]struct {
		shell string
		files map[string]string
	}{
		"sh":         {"/bin/sh", nil},
		"dash":       {"/bin/dash", nil},
		"bash":       {"/bin/bash", nil},
		"noisy bash": {"/bin/bash", map[string]string{".bashrc": noisy, ".bash_profile": noisy, ".profile": noisy}},
		"busybox":    {ash(t), nil},
		"mksh":       {"/bin/mksh", nil},
		"zsh":        {"/bin/zsh", nil},
		"noisy zsh":  {"/bin/zsh", map[string]string{".zshenv": noisy}},
		"fish":       {"/usr/bin/fish", nil},
		"noisy fish": {"/usr/bin/fish", map[string]string{".config/fish/config.fish": "echo welcome\necho you have mail >&2\nprintf 'no end'\n"}},
		"tcsh":       {"/bin/tcsh", nil},
		"noisy tcsh": {"/bin/tcsh", map[string]string{".cshrc": "echo welcome\nsh -c 'echo you have mail >&2'\nset noglob\nset histchars='!^'\n"}},
		"much noise": {"/bin/bash", map[string]string{".bashrc": "head -c 300000 /dev/zero | tr '\\0' x\nhead -c 300000 /dev/zero | tr '\\0' y >&2\n"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := sshtest.Start(t, sshtest.Options{Shell: test.shell, Files: test.files})
			c := connect(t, config(s), sshlink.Options{})
			c.connected(t)
			script := "IFS= read -r word; echo \"it's $word!\"; cat; id -un; echo $0"
			want := "it's first!\nrest\n" + s.User + "\n/bin/sh\n"
			if got := answer(t, c.Client, script, "first\nrest\n"); got != want {
				t.Errorf("it answers %q, want %q", got, want)
			}
			var errs bytes.Buffer
			if code, err := c.Exec(t.Context(), "echo trouble >&2; exit 3", nil, nil, &errs); code != 3 || err != nil || errs.String() != "trouble\n" {
				t.Errorf("code %d, %v, stderr %q", code, err, errs.String())
			}
		})
	}
}

func TestUnusableLoginShells(t *testing.T) {
	tests := map[string]struct {
		shell  string
		config []string
		files  map[string]string
		words  []string
	}{
		"false":            {shell: "/bin/false", words: []string{"nothing, and exited with code 1", "chsh"}},
		"nologin":          {shell: "/usr/sbin/nologin", words: []string{"currently not available"}},
		"forced command":   {shell: "/bin/sh", config: []string{"ForceCommand echo only backups here; exit 0"}, words: []string{"it said: only backups here (", "forced command"}},
		"sftp":             {shell: "/bin/sh", config: []string{"ForceCommand internal-sftp"}, words: []string{"does not run commands"}},
		"restricted bash":  {shell: "/bin/rbash", words: []string{"restricted"}},
		"a loud shell":     {shell: "/bin/sh", config: []string{"ForceCommand exec cat /dev/zero"}, words: []string{"does not run commands"}},
		"start file exits": {shell: "/bin/bash", files: map[string]string{".bashrc": "printf 'go\\033[31m away\\n'; exit 0"}, words: []string{"it said: go [31m away ("}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := sshtest.Start(t, sshtest.Options{Shell: test.shell, Config: test.config, Files: test.files})
			c := connect(t, config(s), sshlink.Options{})
			state := c.until(t, "failure", func(s sshlink.State) bool { return s.Failure != nil })
			if !state.Final {
				t.Error("it is not final")
			}
			wantFailure(t, state.Failure, job.PermissionDenied, append(test.words, "web1")...)
			_, err := c.Exec(t.Context(), "true", nil, nil, nil)
			wantFailure(t, err, job.PermissionDenied, test.words...)
			if f := sshlink.Check(t.Context(), config(s)); f == nil || *f != *state.Failure {
				t.Errorf("Check says %v", f)
			}
		})
	}
}

func TestALoginShellThatHangsIsGivenUp(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		command string
		code    job.Code
		word    string
	}{
		"silent": {"exec sleep 30", job.HostUnreachable, "its login shell does nothing for 1s"},
		"asks":   {"echo choose a machine:; exec sleep 30", job.PermissionDenied, "it said: choose a machine:"},
	} {
		t.Run(name, func(t *testing.T) {
			s := sshtest.Start(t, sshtest.Options{Config: []string{"ForceCommand " + test.command}})
			c := connect(t, config(s), sshlink.Options{Patience: time.Second})
			state := c.until(t, "failure", func(s sshlink.State) bool {
				return s.Failure != nil && strings.Contains(s.Failure.Message, test.word)
			})
			wantFailure(t, state.Failure, test.code)
		})
	}
}

func TestSudo(t *testing.T) {
	s := sshtest.Start(t, sshtest.Options{Shell: "/bin/bash", Sudo: true, Files: map[string]string{".bashrc": noisy}})
	as := config(s)
	as.Sudo = true
	c := connect(t, as, sshlink.Options{})
	c.connected(t)
	if got := answer(t, c.Client, "id -un; echo $HOME; cat", "input"); got != "root\n/root\ninput" {
		t.Errorf("it answers %q", got)
	}
}

func TestSudoIsRefused(t *testing.T) {
	s := sshtest.Start(t, sshtest.Options{Shell: "/bin/sh"})
	as := config(s)
	if f := sshlink.Check(t.Context(), as); f != nil {
		t.Errorf("without sudo Check says %v", f)
	}
	as.Sudo = true
	c := connect(t, as, sshlink.Options{})
	state := c.until(t, "failure", func(s sshlink.State) bool { return s.Failure != nil })
	wantFailure(t, state.Failure, job.PermissionDenied, "sudo on host web1", "password is required", "NOPASSWD")
	if !state.Final {
		t.Error("it is not final")
	}
}

// TestTheCommandSuitsEveryShell runs what the login shell is given by shells that
// may be /bin/sh on a host.
func TestTheCommandSuitsEveryShell(t *testing.T) {
	for name, argv := range map[string][]string{
		"dash": {"dash"}, "bash": {"bash", "--posix"}, "busybox": {"busybox", "sh"}, "mksh": {"mksh"}, "zsh": {"zsh", "--emulate", "sh"},
	} {
		t.Run(name, func(t *testing.T) {
			command := strings.Replace(sshlink.Command, "exec /bin/sh", strings.Join(argv, " "), 1)
			input := sshlink.Wrapped("echo 'é'\ncat\n", "MARKER") + "input"
			if got := piped(t, command, input); got != "MARKER\né\ninput" {
				t.Errorf("it answers %q", got)
			}
			poor := strings.Replace(command, "iflag=fullblock", "iflag=unheardof", 1)
			if got := piped(t, poor, input); got != "MARKER\né\ninput" {
				t.Errorf("with a poorer dd it answers %q", got)
			}
		})
	}
}

// TestAScriptThatIsCutShortDoesNotRun cuts one everywhere.
func TestAScriptThatIsCutShortDoesNotRun(t *testing.T) {
	whole := sshlink.Wrapped("echo ran", "MARKER")
	for end := range len(whole) {
		if got := piped(t, sshlink.Command, whole[:end]); strings.Contains(got, "ran") {
			t.Errorf("of %q was run: %q", whole[:end], got)
		}
	}
	if got := piped(t, sshlink.Command, whole); got != "MARKER\nran\n" {
		t.Errorf("it answers %q", got)
	}
}

// piped runs a command whose input comes in two parts.
func piped(t *testing.T, command, input string) string {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", command)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{input[:len(input)/2], input[len(input)/2:]} {
		if _, err := in.Write([]byte(part)); err != nil {
			break // it has ended
		}
	}
	in.Close()
	cmd.Wait() // what it prints tells
	return out.String()
}
