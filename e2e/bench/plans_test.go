package bench_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
)

// inside runs benchmarks of a package of the coordinator, which alone can see what
// they measure, and returns what they print, by name and unit.
func inside(b *testing.B, pkg, pattern string) func(name, unit string) time.Duration {
	b.Helper()
	root, err := harness.Root()
	if err != nil {
		b.Fatal(err)
	}
	test := exec.Command("go", "test", "-run", "^$", "-bench", pattern, "-benchtime", "3x", "-count", "1", pkg)
	test.Dir = root
	out, err := test.CombinedOutput()
	if err != nil {
		b.Fatalf("benchmarks of %s: %v\n%s", pkg, err, out)
	}
	units := map[string]time.Duration{"ns/op": 1, "submitted-ms": time.Millisecond, "ordered-ms": time.Millisecond}
	found := map[string]time.Duration{}
	for scanner := bufio.NewScanner(strings.NewReader(string(out))); scanner.Scan(); {
		fields := strings.Fields(scanner.Text())
		for i := 3; i < len(fields); i += 2 {
			name, _, _ := strings.Cut(fields[0], "-")
			if value, err := strconv.ParseFloat(fields[i-1], 64); err == nil {
				found[name+" "+fields[i]] = time.Duration(value * float64(units[fields[i]]))
			}
		}
	}
	return func(name, unit string) time.Duration {
		value, measured := found[name+" "+unit]
		if !measured {
			b.Fatalf("%s of %s was not measured:\n%s", unit, name, out)
		}
		return value
	}
}

func times(own, base time.Duration) string {
	return fmt.Sprintf("%.2f", float64(own)/float64(base))
}

// benchmarkPlans: a look at 10,000 plans, beside reading them once; 10,000 plans
// that are due at once, beside as many jobs that are submitted by one call.
func benchmarkPlans(b *testing.B) {
	plans := inside(b, "./coordinator/internal/plan", "Freshness|Storm")
	tick, read := plans("BenchmarkFreshness/tick", "ns/op"), plans("BenchmarkFreshness/read", "ns/op")
	report("(r) freshness of 10000 plans, one tick", ms(tick), "read them once "+ms(read), times(tick, read), "<= 50 ms")
	one := plans("BenchmarkStorm/submit", "ns/op")
	submitted, ordered := plans("BenchmarkStorm/due", "submitted-ms"), plans("BenchmarkStorm/due", "ordered-ms")
	report("(s) 10000 plans due at once, to their last job", ms(submitted), "one call "+ms(one), times(submitted, one), "<= 1000 ms")
	report("    to the last host's order", ms(ordered), "one call "+ms(one), times(ordered, one), "")
}

// benchmarkApply: a file with 10,000 hosts through command line and coordinator,
// then once more, beside reading its YAML alone.
func benchmarkApply(b *testing.B) {
	parse := inside(b, "./coordinator/internal/manifest", "Apply/parse")("BenchmarkApply/parse", "ns/op")
	c := harness.StartCoordinator(b)
	file := filepath.Join(b.TempDir(), "fleet.yaml")
	var text strings.Builder
	text.WriteString("hosts:\n")
	for i := range 10_000 {
		fmt.Fprintf(&text, "  web%05d: {labels: {site: fra, role: web}}\n", i)
	}
	text.WriteString("repositories:\n  main: {location: 'ssh://b@store.example.net/srv', encryption: none}\n")
	text.WriteString("plans:\n  daily: {selector: {role: web}, repositories: [main], paths: [/etc]}\n")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	for _, round := range []struct{ what, goal string }{
		{"(t) apply of a file with 10000 hosts", "<= 5000 ms"}, {"    once more, nothing changed", "<= 1000 ms"},
	} {
		began := time.Now()
		c.MustCLI("apply", "-f", file, "--yes")
		took := time.Since(began)
		report(round.what, ms(took), "parse alone "+ms(parse), times(took, parse), round.goal)
	}
}
