package broker

import (
	"bytes"
	_ "embed" // the template of the configuration
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"text/template"
	"time"

	"github.com/google/renameio/v2"
	"github.com/nats-io/jwt/v2"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Names of the files of an exported bus.
const (
	exportedConfig  = "nats-server.conf"
	exportedSigning = "agents-signing" + keySuffix
	exportedTrust   = "operator.jwt" // whom the server trusts
)

// Export is what a stand-alone nats-server has to know besides the accounts.
type Export struct {
	Dir             string   // of the embedded bus
	Target          string   // directory that is written; the server keeps its store there, too
	Listen          string   // host:port
	Websocket       string   // host:port; empty: none
	URLs            []string // where it will be reached
	CertificateFile string   // PEM; empty: plain
	KeyFile         string   // PEM
	StreamMaxBytes  int64    // as in Options
	Force           bool     // write over an earlier export
}

// Write writes what a stand-alone nats-server needs to take the embedded one's
// place with the same identities, and what the coordinator needs to use it: the
// result, but for TLS. The embedded server may run meanwhile. Faults that an
// operator can mend are *job.Failure.
func (e Export) Write() (*External, error) {
	if !Exists(e.Dir) {
		return nil, job.Fail(job.InvalidRequest, "there is no bus in %s", e.Dir).WithHint("give the coordinator's data directory with --data")
	}
	keys, err := openKeys(e.Dir)
	if err != nil {
		return nil, err
	}
	if err := e.makeTarget(); err != nil {
		return nil, err
	}
	external := &External{URLs: e.URLs, OperatorKeys: map[bus.Role]string{}}
	for key, role := range keys.operators() {
		external.OperatorKeys[role] = key
	}
	if err := e.lend(keys, external); err != nil {
		return nil, err
	}
	config, err := e.config(keys)
	if err != nil {
		return nil, err
	}
	return external, e.write(exportedConfig, config) // last: with it, all is there
}

// makeTarget makes the directory, which holds keys.
func (e Export) makeTarget() error {
	if err := os.MkdirAll(e.Target, 0o700); err != nil {
		return job.Fail(job.Conflict, "the directory cannot be made: %s", err)
	}
	info, err := os.Stat(e.Target)
	if err != nil {
		return fmt.Errorf("directory of the exported bus: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return job.Fail(job.NotAllowed, "%s is open to others (mode %04o)", e.Target, mode).WithHint("it will hold keys: run chmod 700 %s, or give a directory that is not there yet", e.Target)
	}
	if _, err := os.Stat(filepath.Join(e.Target, exportedConfig)); !errors.Is(err, fs.ErrNotExist) && !e.Force {
		return job.Fail(job.Conflict, "a bus was exported to %s before", e.Target).WithHint("write over it with --force; what its server has stored stays")
	}
	return nil
}

// lend writes the credentials of the coordinator's connections, and the key with
// which it mints agents.
func (e Export) lend(keys *keyring, external *External) error {
	for name, file := range map[string]*string{
		agentsConnection: &external.AgentsCredentialsFile, streamConnection: &external.CredentialsFile,
		apiConnection: &external.APICredentialsFile, systemConnection: &external.SystemCredentialsFile,
	} {
		client, err := keys.issuer("coordinator-" + name).mint("coordinator." + name)
		if err != nil {
			return err
		}
		text, err := client.credentials()
		if err != nil {
			return fmt.Errorf("credentials of %s: %w", name, err)
		}
		*file = filepath.Join(e.Target, name+".creds")
		if err := e.write(name+".creds", text); err != nil {
			return err
		}
	}
	seed, err := keys.roles[agentRole].Seed()
	if err != nil {
		return fmt.Errorf("signing key of agents: %w", err)
	}
	external.SigningKeyFile = filepath.Join(e.Target, exportedSigning)
	return e.write(exportedSigning, append(bytes.Clone(seed), '\n'))
}

func (e Export) write(name string, data []byte) error {
	path := filepath.Join(e.Target, name)
	if err := renameio.WriteFile(path, data, 0o600, renameio.WithStaticPermissions(0o600)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// exportedAccount is an account as nats-server's configuration names it.
type exportedAccount struct{ Name, Key, JWT string }

// configuration is what the template is filled with.
type configuration struct {
	Export
	Operator, Sentinel, System string
	Accounts                   []exportedAccount
	Store                      string
	MaxStore                   int64
	MaxPayload, MaxPending     int
	PingInterval               time.Duration
	PingsOut, Wait             int
}

//go:embed nats-server.conf.tmpl
var configText string

var configTemplate = template.Must(template.New(exportedConfig).Funcs(template.FuncMap{"quote": strconv.Quote}).Parse(configText))

// trust writes the JWT of the operator into a file, and returns its path. One
// that an earlier export has written stays: a running server reads accounts
// again, but not whom it trusts.
func (e Export) trust(laidOut *accounts) (path string, err error) {
	path = filepath.Join(e.Target, exportedTrust)
	token, err := laidOut.operator()
	if err != nil {
		return "", err
	}
	if known, err := os.ReadFile(path); err == nil {
		if claims, err := jwt.DecodeOperatorClaims(string(known)); err == nil && claims.Subject == public(laidOut.keys.operator) {
			return path, nil
		}
	}
	return path, e.write(exportedTrust, []byte(token))
}

// config is nats-server's configuration.
func (e Export) config(keys *keyring) ([]byte, error) {
	revoked, err := readRevocations(e.Dir)
	if err != nil {
		return nil, err
	}
	laidOut, err := newAccounts(keys, revoked)
	if err != nil {
		return nil, err
	}
	sentinel, err := keys.issuer(enrolRole).mint(enrolRole)
	if err != nil {
		return nil, err
	}
	if e.StreamMaxBytes == 0 {
		e.StreamMaxBytes = defaultStreamBytes
	}
	values := configuration{
		Export: e, Sentinel: sentinel.token, System: public(keys.accounts[systemAccount]),
		Store: filepath.Join(e.Target, "store"), MaxStore: maxStore(e.StreamMaxBytes), MaxPayload: maxPayload, MaxPending: maxPending,
		PingInterval: bus.PingInterval, PingsOut: bus.PingsOut, Wait: int(authTimeout),
	}
	if values.Operator, err = e.trust(laidOut); err != nil {
		return nil, err
	}
	for _, name := range accountNames() {
		key := public(keys.accounts[name])
		token, err := laidOut.resolver.Fetch(key)
		if err != nil {
			return nil, fmt.Errorf("bus account %s: %w", name, err)
		}
		values.Accounts = append(values.Accounts, exportedAccount{name, key, token})
	}
	var text bytes.Buffer
	if err := configTemplate.Execute(&text, values); err != nil {
		return nil, fmt.Errorf("write %s: %w", exportedConfig, err)
	}
	return text.Bytes(), nil
}
