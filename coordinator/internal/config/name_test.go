package config_test

import (
	"net"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/config"
)

func hostname(t *testing.T) string {
	t.Helper()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestNames(t *testing.T) {
	c := config.Default()
	c.TLS.Names = []string{"Backup.example.net", "2001:DB8::7", "localhost"}
	c.HTTP.URL, c.Bus.URL = "https://pages.example.net:8440/", "tls://backup.example.net:4222"
	c.HTTP.Listen, c.Bus.Websocket = "192.0.2.7:8440", "ws.example.net:4223"
	want := []string{"backup.example.net", "2001:db8::7", "localhost", "pages.example.net", hostname(t), "127.0.0.1", "::1", "192.0.2.7", "ws.example.net"}
	if diff := cmp.Diff(want, c.Names()); diff != "" {
		t.Error(diff)
	}
}

func TestNamesWhenListeningEverywhere(t *testing.T) {
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, listen := range []string{":8440", "0.0.0.0:8440", "[::]:8440"} {
		c := config.Default()
		c.Bus.Listen = listen
		names := c.Names()
		for _, address := range own {
			ip := address.(*net.IPNet).IP
			if ip.IsGlobalUnicast() && !slices.Contains(names, ip.String()) {
				t.Errorf("with %s: %v lacks %s", listen, names, ip)
			}
		}
		for _, name := range []string{"", "0.0.0.0", "::"} {
			if slices.Contains(names, name) {
				t.Errorf("with %s: %v has %q", listen, names, name)
			}
		}
	}
}

func TestAgentURLs(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*config.Config)
		listen string
		want   string
	}{
		"listen address": {func(*config.Config) {}, "tls://127.0.0.1:4222", "tls://127.0.0.1:4222"},
		"first name": {func(c *config.Config) { c.TLS.Names = []string{"a.example.net", "b"} },
			"tls://0.0.0.0:4222", "tls://a.example.net:4222"},
		"IPv6":          {func(c *config.Config) { c.TLS.Names = []string{"2001:db8::7"} }, "tls://[::]:4222", "tls://[2001:db8::7]:4222"},
		"every address": {func(*config.Config) {}, "tls://0.0.0.0:4222", "tls://" + hostname(t) + ":4222"},
		"given": {func(c *config.Config) {
			c.Bus.URL, c.TLS.Names, c.Bus.External.URLs = "tls://bus:1", []string{"a"}, []string{"nats://x"}
		}, "tls://127.0.0.1:4222", "tls://bus:1"},
		"external": {func(c *config.Config) { c.Bus.External.URLs = []string{"nats://x"} }, "nats://y", "nats://x"},
	} {
		t.Run(name, func(t *testing.T) {
			c := config.Default()
			test.change(&c)
			if diff := cmp.Diff([]string{test.want}, c.AgentURLs(test.listen)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDepotIsReachedWhereItListens(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*config.Config)
		listen string
		want   string
	}{
		"listen address": {func(*config.Config) {}, "127.0.0.1:2222", "127.0.0.1:2222"},
		"first name":     {func(c *config.Config) { c.TLS.Names = []string{"a.example.net", "b"} }, "[::]:4711", "a.example.net:4711"},
		"every address":  {func(*config.Config) {}, "0.0.0.0:2222", hostname(t) + ":2222"},
		"given":          {func(c *config.Config) { c.Depot.Address, c.TLS.Names = "depot:22", []string{"a"} }, "127.0.0.1:2222", "depot:22"},
	} {
		t.Run(name, func(t *testing.T) {
			c := config.Default()
			test.change(&c)
			if diff := cmp.Diff(test.want, c.DepotAddress(test.listen)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDepotLiesInTheDataDirectory(t *testing.T) {
	c := config.Default()
	if got := c.DepotPath(); got != "/var/lib/borgfleet/depot" {
		t.Errorf("path %s", got)
	}
	if c.Depot.Path = "/srv/depot"; c.DepotPath() != "/srv/depot" {
		t.Errorf("path %s", c.DepotPath())
	}
}
