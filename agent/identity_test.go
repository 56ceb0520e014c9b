package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// subscribe answers requests to a subject.
func subscribe[Request, Reply any](f *fleet, subject string, answer func(Request) Reply) {
	f.t.Helper()
	if _, err := f.conn.Subscribe(subject, func(msg *nats.Msg) {
		var request Request
		err := json.Unmarshal(msg.Data, &request)
		if err == nil {
			var data []byte
			if data, err = json.Marshal(answer(request)); err == nil {
				err = msg.Respond(data)
			}
		}
		if err != nil {
			f.t.Errorf("%s: %v", subject, err)
		}
	}); err != nil {
		f.t.Fatal(err)
	}
	if err := f.conn.Flush(); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) jwt(public string) string {
	token, err := jwt.NewUserClaims(public).Encode(f.signer)
	if err != nil {
		f.t.Error(err)
	}
	return token
}

// admit answers enrolments as a coordinator whose token is for web1, and
// returns such a token. This bus has no TLS, as it is on this machine.
func (f *fleet) admit() string {
	f.t.Helper()
	own, err := nkeys.CreateCurveKeys()
	if err != nil {
		f.t.Fatal(err)
	}
	key, err := own.PublicKey()
	if err != nil {
		f.t.Fatal(err)
	}
	signer, err := f.signer.PublicKey()
	if err != nil {
		f.t.Fatal(err)
	}
	subscribe(f, bus.Enrol, func(message bus.EnrolMessage) bus.EnrolReply {
		var request bus.EnrolRequest
		if err := bus.OpenMessage(message.Sealed, own, &request); err != nil {
			f.t.Error(err)
		}
		if request.Host != "" && request.Host != host {
			return bus.EnrolReply{Failure: job.Fail(job.Conflict, "the token is for host web1, and this host is configured as another one")}
		}
		sealed, err := bus.SealMessage(bus.EnrolAnswer{
			Host: host, JWT: f.jwt(request.PublicKey), Signer: signer, URLs: []string{f.url}, At: time.Now()}, request.SealKey)
		if err != nil {
			f.t.Error(err)
		}
		return bus.EnrolReply{Sealed: &sealed}
	})
	plain := make([]byte, bus.TokenSecretSize)
	_, _ = rand.Read(plain)
	token, err := bus.EnrolmentToken{URL: f.url, Key: key, Secret: secret.New(plain)}.Encode()
	if err != nil {
		f.t.Fatal(err)
	}
	return token
}

// call runs a command of the agent and returns its exit code and its words.
func call(t *testing.T, input string, args ...string) (int, string) {
	t.Helper()
	command := exec.Command(os.Args[0], args...)
	command.Stdin = strings.NewReader(input)
	out, err := command.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	} else if ok {
		return exit.ExitCode(), string(out)
	}
	return 0, string(out)
}

func TestEnrollAndRun(t *testing.T) {
	f := newFleet(t)
	token := f.admit()
	f.write("etc/agent.yaml", "# mine\nslots: 3 # three\n", 0o600)
	begin := time.Now()
	f.agent = exec.Command(os.Args[0], "enroll", "--run", "--token", "-", "--config", f.path("etc/agent.yaml"), "--data", f.path("data"))
	f.agent.Stdin = strings.NewReader(token + "\n")
	out := &strings.Builder{}
	f.agent.Stdout = out
	if err := f.agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.agent.Process.Kill(); _ = f.agent.Wait(); f.agent = nil })
	patience.Until(t, "the agent says hello", func() bool { return f.lastHello().StartedAt.After(begin) })
	t.Logf("from command to hello: %s", time.Since(begin))
	if f.lastHello().Slots != 3 {
		t.Errorf("hello %+v", f.lastHello())
	}
	text, err := os.ReadFile(f.path("etc/agent.yaml"))
	if err != nil || !strings.Contains(string(text), "# mine\nslots: 3 # three\nhost: web1\n") {
		t.Errorf("agent.yaml (%v):\n%s", err, text)
	}
	if info, err := os.Stat(f.path("etc/agent.creds")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("credentials %v, error %v", info, err)
	}
}

func TestEnrollFailsClearly(t *testing.T) {
	f := newFleet(t)
	token := f.admit()
	f.write("db1/agent.yaml", "host: db1\n", 0o600)
	for name, test := range map[string]struct {
		args []string
		code int
		says []string
	}{
		"cut token":     {[]string{"--token", token[:40]}, 2, []string{"not a whole enrolment token", "copy all of it"}},
		"no token":      {nil, 2, []string{"--token"}},
		"another host":  {[]string{"--token", token, "--config", f.path("db1/agent.yaml")}, 1, []string{"is for host web1", "is of host db1", "nothing was changed"}},
		"not reachable": {[]string{"--token", token, "--url", "nats://127.0.0.1:1"}, 5, []string{"nothing usable answers at nats://127.0.0.1:1", "firewall"}},
		"bad file":      {[]string{"--token", token, "--config", f.path("keys/signer.pub")}, 2, []string{"configuration"}},
		"not writable":  {[]string{"--token", token, "--config", "/proc/nowhere/agent.yaml"}, 1, []string{"/proc/nowhere"}},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"enroll", "--config", f.path("etc/agent.yaml"), "--data", f.path("data")}, test.args...)
			code, out := call(t, "", args...)
			for _, text := range test.says {
				if code != test.code || !strings.Contains(out, text) {
					t.Errorf("exit code %d and %q; want %d and %q", code, out, test.code, text)
				}
			}
			if strings.Contains(out, token[40:60]) {
				t.Errorf("the token is repeated: %s", out)
			}
		})
	}
	if text, err := os.ReadFile(f.path("db1/agent.yaml")); err != nil || string(text) != "host: db1\n" {
		t.Errorf("the other host's file is %q (%v)", text, err)
	}
}

// TestRotateWhileAJobRuns changes all keys under a running backup.
func TestRotateWhileAJobRuns(t *testing.T) {
	f := newFleet(t)
	f.write("source/hello.txt", "hello", 0o644)
	f.gated()
	f.start()
	f.run(job.Init, job.InitSpec{})
	id, _ := f.order(job.Backup, job.BackupSpec{Paths: []string{f.path("source")}})
	patience.Until(t, "borg runs", func() bool { return len(f.told(id)) >= 2 })
	before := f.lastHello()
	connections, err := f.server.Connz(&server.ConnzOptions{})
	if err != nil {
		t.Fatal(err)
	}
	subscribe(f, bus.RenewSubject(host), func(request bus.RenewRequest) bus.RenewReply {
		if !request.Confirm {
			return bus.RenewReply{JWT: f.jwt(request.PublicKey)}
		}
		for _, connection := range connections.Conns { // the old identity ends
			if connection.Name == host {
				_ = f.server.DisconnectClientByID(connection.Cid)
			}
		}
		return bus.RenewReply{}
	})
	code, out := call(t, "", "rotate", "--host", host, "--data", f.path("data"), "--bus", f.url, "--credentials", f.path("keys/agent.creds"))
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, out)
	}
	patience.Until(t, "a hello with the new seal key", func() bool { return f.lastHello().SealKey != before.SealKey })
	if f.lastHello().StartedAt != before.StartedAt {
		t.Error("the agent was started anew")
	}
	f.write("gate", "", 0o600)
	if end := f.end(id); end.State != job.Succeeded {
		t.Errorf("ended %s: %v", end.State, end.Failure)
	}
	f.run(job.List, job.ListSpec{}) // with a passphrase that is sealed to the new key
}
