package fleet

import (
	"fmt"
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/shared/job"
)

// maxNamedHosts bounds the list of hosts to choose from.
const maxNamedHosts = 100

// ChooseHost returns the host for a job for which none was named: the one that
// made the archive that the job is about, if that is connected, else the only one
// there is. Without such an archive maker is empty. The coordinator's own machine
// is none of them: jobs of its depot need no host. The failure lists the hosts.
func ChooseHost(hosts []HostView, maker string) (string, error) {
	hosts = slices.DeleteFunc(slices.Clone(hosts), func(h HostView) bool { return h.Mode == ModeLocal })
	made := func(h HostView) bool { return h.Name == maker && h.Online }
	switch {
	case len(hosts) == 0:
		return "", job.Invalid("host", "there is none yet").WithHint("borgfleet host token lets one in")
	case slices.ContainsFunc(hosts, made):
		return maker, nil
	case len(hosts) == 1:
		return hosts[0].Name, nil
	}
	names := make([]string, len(hosts))
	for i, host := range hosts {
		names[i] = host.Name
	}
	slices.Sort(names)
	if more := len(names) - maxNamedHosts; more > 0 {
		names = append(names[:maxNamedHosts], fmt.Sprintf("and %d more", more))
	}
	return "", job.Invalid("host", "left out, and there are %d hosts", len(hosts)).WithHint("one of %s", strings.Join(names, ", "))
}
