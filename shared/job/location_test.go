package job_test

import (
	"testing"

	"github.com/borgfleet/borgfleet/shared/job"
)

func TestSameLocation(t *testing.T) {
	for what, test := range map[string]struct {
		one, other string
		same       bool
	}{
		"the same":                      {"/srv/borg", "/srv/borg", true},
		"a slash at the end":            {"/srv/borg/", "/srv/borg", true},
		"doubled slashes and dots":      {"/srv//./borg", "/srv/borg/.", true},
		"maybe through a link":          {"/srv/x/../borg", "/srv/borg", false},
		"the root":                      {"/", "//", true},
		"another directory":             {"/srv/borg", "/srv/borg2", false},
		"here and there":                {"/srv/borg", "ssh://h/srv/borg", false},
		"the port that ssh has anyway":  {"ssh://u@h:22/srv/borg", "ssh://u@h/srv/borg", true},
		"another port":                  {"ssh://u@h:2222/srv/borg", "ssh://u@h/srv/borg", false},
		"capitals in the server's name": {"ssh://u@H.Example.net/srv/borg", "ssh://u@h.example.net/srv/borg", true},
		"capitals in the user's name":   {"ssh://U@h/srv/borg", "ssh://u@h/srv/borg", false},
		"capitals in the path":          {"ssh://u@h/srv/Borg", "ssh://u@h/srv/borg", false},
		"another user":                  {"ssh://a@h/srv/borg", "ssh://b@h/srv/borg", false},
		"slashes there":                 {"ssh://u@h//srv/borg//", "ssh://u@h/srv/borg", true},
		"below the home directory":      {"ssh://u@h/./borg", "ssh://u@h/borg", false},
		"both below it":                 {"ssh://u@h/./borg/", "ssh://u@h/.//borg", true},
		"another's home directory":      {"ssh://u@h/~x/borg", "ssh://u@h/x/borg", false},
		"an address with colons":        {"ssh://u@[::1]:22/b", "ssh://u@[::1]/b", true},
	} {
		t.Run(what, func(t *testing.T) {
			if got := job.SameLocation(test.one, test.other); got != test.same {
				t.Errorf("%s and %s: %v", test.one, test.other, got)
			}
		})
	}
}
