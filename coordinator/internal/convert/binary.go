package convert

import (
	"debug/elf"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/borgfleet/borgfleet/shared/job"
)

// machine is what a kernel calls a processor, and what binaries for it say.
type machine struct {
	goarch string
	elf    elf.Machine
}

// machines are by the name that uname -m prints.
var machines = map[string]machine{
	"x86_64": {"amd64", elf.EM_X86_64}, "amd64": {"amd64", elf.EM_X86_64},
	"aarch64": {"arm64", elf.EM_AARCH64}, "arm64": {"arm64", elf.EM_AARCH64},
	"armv6l": {"arm", elf.EM_ARM}, "armv7l": {"arm", elf.EM_ARM}, "armv8l": {"arm", elf.EM_ARM},
	"i386": {"386", elf.EM_386}, "i586": {"386", elf.EM_386}, "i686": {"386", elf.EM_386},
	"ppc64le": {"ppc64le", elf.EM_PPC64}, "riscv64": {"riscv64", elf.EM_RISCV}, "s390x": {"s390x", elf.EM_S390},
}

// findAgent returns the path of an agent's binary that runs on a host whose
// kernel gives this name to its processor.
func findAgent(dirs []string, uname string) (string, error) {
	of, known := machines[uname]
	if !known {
		return "", job.Fail(job.RefusedByHost, "the host has a processor of the kind %q, for which there is no agent", uname).
			WithHint("leave it a host without an agent; it does the same jobs")
	}
	var others []string
	for _, dir := range dirs {
		for _, name := range []string{"borgfleet-agent-linux-" + of.goarch, "borgfleet-agent"} {
			path := filepath.Join(dir, name)
			runs, err := runsOn(path, of.elf)
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				return "", job.Fail(job.Unavailable, "%s is not an agent's binary: %s", path, err).WithHint("put the agent of borgfleet's release there")
			case runs:
				return path, nil
			default:
				others = append(others, path)
			}
		}
	}
	if len(others) > 0 {
		return "", job.Fail(job.Unavailable, "the host has a processor of the kind %s, and %s is for another", uname, others[0]).
			WithHint("put an agent for it beside the coordinator's binary: %s", filepath.Join(dirs[0], "borgfleet-agent-linux-"+of.goarch))
	}
	return "", job.Fail(job.Unavailable, "the coordinator has no agent to install").
		WithHint("put borgfleet-agent beside the coordinator's binary: %s", filepath.Join(dirs[0], "borgfleet-agent"))
}

func runsOn(path string, want elf.Machine) (bool, error) {
	file, err := elf.Open(path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	return file.Machine == want && file.Type == elf.ET_EXEC || file.Machine == want && file.Type == elf.ET_DYN, nil
}

// ownDir is where the coordinator's own binary lies.
func ownDir() ([]string, error) {
	own, err := os.Executable()
	if err == nil {
		own, err = filepath.EvalSymlinks(own)
	}
	if err != nil {
		return nil, err
	}
	return []string{filepath.Dir(own)}, nil
}
