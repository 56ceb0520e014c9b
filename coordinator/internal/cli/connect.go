package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/config"
	"github.com/borgfleet/borgfleet/coordinator/internal/daemon"
	"github.com/borgfleet/borgfleet/shared/console"
)

// connect finds the coordinator and what lets one in: --url and BORGFLEET_TOKEN;
// else the data directory that was named; else what login stored; else the
// default data directory.
func (s *session) connect() (*client.Client, error) {
	options, err := s.whereTo()
	if err != nil {
		return nil, err
	}
	return client.New(options)
}

func (s *session) whereTo() (client.Options, error) {
	asked := strings.TrimRight(s.globals.URL, "/")
	if asked != "" && s.globals.Token != "" {
		return client.Options{URL: asked, Token: s.globals.Token, CA: s.authorityOf(asked)}, nil
	}
	if s.globals.Data == "" {
		stored, ok, err := readLogin()
		if err != nil {
			return client.Options{}, err
		}
		if ok && (asked == "" || asked == stored.URL) {
			return client.Options{URL: stored.URL, Token: stored.Token, CA: []byte(stored.CA)}, nil
		}
	}
	own, err := readOwn(s.dataDir())
	switch {
	case asked == "":
		if s.globals.Token != "" {
			own.Token = s.globals.Token
		}
		return own, err
	case err == nil && own.URL == asked:
		return own, nil
	default:
		return client.Options{URL: asked}, nil
	}
}

// authorityOf returns what login stored for a coordinator; nil: nothing.
func (s *session) authorityOf(address string) []byte {
	if stored, ok, err := readLogin(); err == nil && ok && stored.URL == address {
		return []byte(stored.CA)
	}
	if own, err := readOwn(s.dataDir()); err == nil && own.URL == address {
		return own.CA
	}
	return nil
}

func (s *session) dataDir() string {
	if s.globals.Data != "" {
		return s.globals.Data
	}
	return config.Default().Data
}

// readOwn returns how to reach the coordinator that runs on a data directory,
// with the credentials of the directory's owner.
func readOwn(data string) (client.Options, error) {
	endpoints, err := readEndpoints(data)
	if err != nil {
		return client.Options{}, err
	}
	token, err := os.ReadFile(filepath.Join(data, daemon.LocalTokenFile))
	if err != nil {
		return client.Options{}, unreadable(filepath.Join(data, daemon.LocalTokenFile), err)
	}
	options := client.Options{URL: endpoints.HTTP, Token: strings.TrimSpace(string(token))}
	if strings.HasPrefix(endpoints.HTTP, "https:") && endpoints.CAFile != "" {
		if options.CA, err = os.ReadFile(endpoints.CAFile); err != nil {
			return client.Options{}, unreadable(endpoints.CAFile, err)
		}
	}
	return options, nil
}

func readEndpoints(data string) (daemon.Endpoints, error) {
	path := filepath.Join(data, daemon.EndpointsFile)
	var endpoints daemon.Endpoints
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return endpoints, console.Exit{Code: console.ExitUnreachable, Err: fmt.Errorf(
			"no coordinator runs on the data directory %s (start one with `borgfleet serve`; for one elsewhere: borgfleet login URL)", data)}
	}
	if err != nil {
		return endpoints, unreadable(path, err)
	}
	if err := json.Unmarshal(content, &endpoints); err != nil {
		return endpoints, fmt.Errorf("read %s: %w", path, err)
	}
	return endpoints, nil
}

func unreadable(path string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return console.Exit{Code: console.ExitUnreachable, Err: fmt.Errorf("may not read %s (run as the coordinator's user, or use borgfleet login URL)", path)}
	}
	return fmt.Errorf("read %s: %w", path, err)
}
