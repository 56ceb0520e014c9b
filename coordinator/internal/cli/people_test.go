package cli_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

const (
	exportID  = job.ID("01JD9X7Q2M4T6W8Y0ABCDEFGHM")
	restoreID = job.ID("01JD9X7Q2M4T6W8Y0ABCDEFGHN")
)

const natsCreds = "-----BEGIN NATS USER JWT-----\nx\n"

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// people gives a coordinator people, tokens and an audit.
func people(c *coordinator) {
	export, restore := backup(job.Succeeded), backup(job.Succeeded)
	export.ID, export.Kind, export.Spec = exportID, job.KeyExport, job.KeyExportSpec{Recipient: "age1x"}
	export.Result = &job.Result{KeyExport: "-----BEGIN AGE ENCRYPTED FILE-----"}
	restore.ID, restore.Kind, restore.Spec = restoreID, job.Restore, job.RestoreSpec{Archive: "web1-1", Target: "/var/restore/a"}
	restore.Result = &job.Result{Archive: "web1-1", Target: "/var/restore/a"}
	token := fleet.APIToken{ID: "01ab", Name: "ci", Role: bus.Viewer, CreatedBy: "operator:alice", ExpiresAt: at(0).AddDate(0, 1, 0)}
	key := fleet.NATSCredentials{Name: "bob", Role: bus.Viewer, CreatedAt: at(0)}
	ended := key
	ended.RevokedAt = pointer(at(1))
	for path, answer := range map[string]any{
		"GET /whoami": map[string]any{"name": "operator:local", "role": "admin", "from": "http 127.0.0.1"},
		"POST /enrolment-tokens": map[string]any{
			"id": "e1", "host": "web1", "expires_at": at(0), "token": "bfe_x", "url": "tls://backup:4222", "command": "sudo borgfleet-agent enroll --token bfe_x",
		},
		"GET /users": map[string]any{"users": []fleet.User{
			{Name: "alice", Role: bus.Admin, HasPassword: true, CreatedAt: at(0), LastLogin: pointer(at(0))}, {Name: "bob", Role: bus.Viewer, CreatedAt: at(0), CreatedBy: "operator:alice"},
		}},
		"POST /users":          map[string]any{"name": "bob", "role": "viewer", "setup_url": "https://backup/setup/x", "setup_expires_at": at(0)},
		"PATCH /users/bob":     fleet.User{Name: "bob", Role: bus.Operator},
		"POST /users/bob/link": map[string]any{"setup_url": "https://backup/setup/y", "setup_expires_at": at(0)},
		"DELETE /users/bob":    nil,
		"GET /tokens":          map[string]any{"tokens": []fleet.APIToken{token}},
		"POST /tokens":         map[string]any{"id": "01ab", "name": "ci", "role": "viewer", "expires_at": at(0), "token": "bft_x"},
		"DELETE /tokens/01ab":  nil,

		"GET /nats-credentials":        map[string]any{"credentials": []fleet.NATSCredentials{key, ended}},
		"POST /nats-credentials":       map[string]any{"name": "bob", "role": "viewer", "public_key": "UA", "credentials": natsCreds},
		"DELETE /nats-credentials/bob": nil,

		"GET /audit": fleet.AuditPage{Before: 2, Entries: []fleet.AuditEntry{{
			Number: 2, At: at(0), By: "operator:alice", From: "http 10.0.0.7", Action: "host.add", Object: "host/web1", Outcome: "done", Hash: hashOf("2"),
		}}},
		"GET /audit/verify":              fleet.AuditProof{Entries: 3, Head: hashOf("3"), Intact: true},
		"GET /jobs/" + string(exportID):  export,
		"GET /jobs/" + string(restoreID): restore,
	} {
		c.answers[path] = answer
	}
}

// Nobody yet is said in words, and with what to do.
func TestNobodyYet(t *testing.T) {
	c := newCoordinator(t)
	c.answers = map[string]any{
		"GET /users": map[string]any{"users": []any{}}, "GET /tokens": map[string]any{"tokens": []any{}},
		"GET /nats-credentials": map[string]any{"credentials": []any{}}, "GET /audit": fleet.AuditPage{}, "GET /audit/verify": fleet.AuditProof{Intact: true},
	}
	for args, want := range map[string]string{
		"user list": "user add NAME", "token list": "token add NAME", "nats-creds": "nats-creds NAME", "audit list": "No entries.\n",
		"audit verify": "0 entries, each follows from the one before.\n",
	} {
		if r := c.run(t, "", strings.Fields(args)...); r.code != 0 || !strings.Contains(r.out, want) || strings.Contains(r.out, "Newest") {
			t.Errorf("%s: exit code %d:\n%s%s", args, r.code, r.out, r.err)
		}
	}
}

// Only the token goes to standard output, so that a script can keep it.
func TestTokenAdd(t *testing.T) {
	c := newCoordinator(t)
	people(c)
	if r := c.run(t, "", "token", "add", "ci", "--role", "viewer"); r.code != 0 || r.out != "bft_x\n" || !strings.Contains(r.err, "this once") {
		t.Errorf("exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	var made struct{ Token, ID string }
	if r := c.run(t, "", "token", "add", "ci", "--role", "viewer", "--json"); json.Unmarshal([]byte(r.out), &made) != nil || made.Token != "bft_x" || made.ID != "01ab" || r.err != "" {
		t.Errorf("as JSON:\n%s%s", r.out, r.err)
	}
}

// What is told once is in the JSON, too.
func TestSecretsAsJSON(t *testing.T) {
	c := newCoordinator(t)
	people(c)
	for args, want := range map[string]string{
		"host token web1": `"token": "bfe_x"`, "user add bob --role viewer": `"setup_url": "https://backup/setup/x"`,
		"user link bob": `"setup_url": "https://backup/setup/y"`, "nats-creds bob --role viewer": `"credentials": "-----BEGIN`,
	} {
		if r := c.run(t, "", append(strings.Fields(args), "--json")...); r.code != 0 || !strings.Contains(r.out, want) {
			t.Errorf("%s: exit code %d:\n%s%s", args, r.code, r.out, r.err)
		}
	}
}

// The file is private, and nothing is made if it cannot be written.
func TestCredentialsIntoAFile(t *testing.T) {
	c := newCoordinator(t)
	people(c)
	dir := t.TempDir()
	file := filepath.Join(dir, "bob.creds")
	r := c.run(t, "", "nats-creds", "bob", "--role", "viewer", "-o", file)
	if r.code != 0 || strings.Contains(r.out, "BEGIN") || !strings.Contains(r.out, file) {
		t.Errorf("exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	content, err := os.ReadFile(file)
	if err != nil || string(content) != natsCreds {
		t.Errorf("%q, %v", content, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	asked := len(c.asked)
	for name, says := range map[string]string{file: "is there already", filepath.Join(dir, "none", "x"): "there is no directory"} {
		r := c.run(t, "", "nats-creds", "bob", "--role", "viewer", "-o", name)
		if r.code != console.ExitUsage || !strings.Contains(r.err, says) || len(c.asked) != asked {
			t.Errorf("%s: exit code %d, asked %v:\n%s", name, r.code, c.asked[asked:], r.err)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

// Whoever may not, or is not known, gets exit code 5.
func TestNotLetIn(t *testing.T) {
	c := newCoordinator(t)
	t.Setenv("BORGFLEET_TOKEN", "bft_x")
	for name, failure := range map[string]*job.Failure{
		"who": job.Fail(job.NotAuthenticated, "who asks?"), "no": job.Fail(job.NotAllowed, "this needs the role admin"),
	} {
		c.answers = map[string]any{"GET /users": failure, "GET /whoami": failure, "POST /nats-credentials": failure, "GET /audit/verify": failure}
		for _, args := range []string{"user list", "whoami", "nats-creds bob --role viewer", "audit verify --json"} {
			if r := c.run(t, "", strings.Fields(args)...); r.code != console.ExitUnreachable || r.out != "" || !strings.Contains(r.err, failure.Message) {
				t.Errorf("%s, %s: exit code %d:\n%s%s", name, args, r.code, r.out, r.err)
			}
		}
	}
}

func TestAuditVerify(t *testing.T) {
	good := fleet.AuditProof{Entries: 3, Head: hashOf("3"), Intact: true}
	for name, test := range map[string]struct {
		proof  fleet.AuditProof
		expect string
		code   int
		says   string // on standard error
	}{
		"as expected":       {good, "2:" + hashOf("2"), console.ExitDone, ""},
		"in capitals":       {good, "2:" + strings.ToUpper(hashOf("2")), console.ExitDone, ""},
		"made anew":         {good, "2:" + hashOf("other"), console.ExitFailed, "was made anew"},
		"cut off":           {good, "4:" + hashOf("4"), console.ExitFailed, "entry 4 is not there any more"},
		"tampered with":     {fleet.AuditProof{Entries: 3, BrokenAt: 2, Message: "entry 2 does not follow"}, "", console.ExitFailed, "entry 2 does not follow"},
		"not, as it should": {fleet.AuditProof{Entries: 3, BrokenAt: 2, Message: "entry 2 does not follow"}, "2:" + hashOf("2"), console.ExitFailed, "tampered"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCoordinator(t)
			people(c)
			c.answers["GET /audit/verify"] = test.proof
			args := []string{"audit", "verify"}
			if test.expect != "" {
				args = append(args, "--expect", test.expect)
			}
			if r := c.run(t, "", args...); r.code != test.code || !strings.Contains(r.err, test.says) || (test.says == "") != (r.err == "") {
				t.Errorf("exit code %d, want %d:\n%s%s", r.code, test.code, r.out, r.err)
			}
			var proof fleet.AuditProof
			if r := c.run(t, "", append(args, "--json")...); json.Unmarshal([]byte(r.out), &proof) != nil || proof != test.proof || r.code != test.code {
				t.Errorf("as JSON: exit code %d:\n%s%s", r.code, r.out, r.err)
			}
		})
	}
}
