package borg_test

import (
	"testing"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Who cleans up after a mount reads its command again, maybe one of another
// version's: the script may differ, its arguments not.
func TestMountPointOfACommand(t *testing.T) {
	repository := job.Repository{Name: "main", Location: "/srv/main", Encryption: job.Unencrypted}
	for name, test := range map[string]struct {
		spec job.Spec
		want string
	}{
		"mount":  {job.MountSpec{MountPoint: "/srv/restore/a b/"}, "/srv/restore/a b"},
		"umount": {job.UmountSpec{MountPoint: "/srv/restore/a"}, ""},
		"verify": {job.VerifySpec{}, ""},
		"list":   {job.ListSpec{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			argv, _, err := borg.Command(borg.Task{Kind: test.spec.Kind(), Spec: test.spec, Repository: repository, Host: "web1"}, borg.Environment{})
			if err != nil {
				t.Fatal(err)
			}
			if point, ok := borg.MountPoint(argv); point != test.want || ok != (test.want != "") {
				t.Errorf("%q, %v; want %q", point, ok, test.want)
			}
		})
	}
}
