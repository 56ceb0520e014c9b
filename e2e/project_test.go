package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/harness"
)

func root(t *testing.T) string {
	t.Helper()
	dir, err := harness.Root()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// copyTree copies what git tracks, as it is in the working tree.
func copyTree(t *testing.T) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "tree")
	files, err := exec.Command("git", "-C", root(t), "ls-files").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(string(files)) {
		data, err := os.ReadFile(filepath.Join(root(t), name))
		if err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// The import check passes on this tree, and fails when a sibling imports a
// sibling.
func TestLayersFailOnAForbiddenImport(t *testing.T) {
	t.Parallel()
	tree := copyTree(t)
	layers := filepath.Join(tree, "deploy", "dev", "layers.sh")
	if r := harness.Run(t, []string{"GOWORK=" + filepath.Join(tree, "go.work")}, layers); r.Code != 0 {
		t.Fatalf("the tree itself: %s", r.Stderr)
	}
	for name, c := range map[string]struct{ file, text, says string }{
		"sibling":  {"coordinator/internal/busapi/forbidden.go", "package busapi\n\nimport _ \"github.com/borgfleet/borgfleet/coordinator/internal/web\"\n", "coordinator/internal/busapi must not import coordinator/internal/web"},
		"upward":   {"shared/build/forbidden.go", "package build\n\nimport _ \"github.com/borgfleet/borgfleet/shared/bus\"\n", "shared/build must not import shared/bus"},
		"unlisted": {"shared/novel/novel.go", "// Package novel has no layer.\npackage novel\n", "shared/novel has no layer"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(tree, c.file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			defer os.Remove(path)
			r := harness.Run(t, []string{"GOWORK=" + filepath.Join(tree, "go.work")}, layers)
			if r.Code == 0 || !strings.Contains(r.Stderr, c.says) {
				t.Errorf("exit code %d: %s", r.Code, r.Stderr)
			}
		})
	}
}

// The demo, which is the README's first command, runs to its end and leaves
// neither a process nor a file.
func TestDemoRunsOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	result := harness.Run(t, []string{"ONCE=1", "TMPDIR=" + dir}, "make", "-C", root(t), "--no-print-directory", "demo")
	if result.Code != 0 {
		t.Fatalf("exit code %d\n%s%s", result.Code, result.Stdout, result.Stderr)
	}
	for _, want := range []string{"new in repository", "deleted", "check of demo-repo on demo: succeeded", "+ plan/demo-nightly", "critical", "http://127.0.0.1:", "jobs.submit"} {
		if !strings.Contains(result.Stdout, want) {
			t.Errorf("the demo does not show %q:\n%s", want, result.Stdout)
		}
	}
	if left := harness.PIDs(dir); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
}
