package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/borgfleet/borgfleet/e2e/harness"
)

// plansScene has a plan that has run well, one that cannot, and one for a host
// that never came.
func plansScene(t *testing.T) *harness.Coordinator {
	t.Helper()
	c := harness.StartCoordinator(t)
	c.AddAgent("web1", harness.AgentOptions{})
	c.MustCLI("host", "add", "laptop")
	c.AddRepository("main")
	c.AddRepository("lost")
	c.Init("web1", "main")
	tree := t.TempDir()
	harness.MakeTree(t, tree, 10, 4<<10)
	manifest := filepath.Join(t.TempDir(), "fleet.yaml")
	text := fmt.Sprintf(`
plans:
  web-daily:
    description: everything that the shop needs
    hosts: [web1]
    repositories: [main]
    paths: [%[1]s]
    schedule: {cron: "0 2 * * *", timezone: Europe/Berlin, jitter: 15m, window: "22:00-06:00"}
    retention: {keep_daily: 7, keep_weekly: 4}
    after: [prune, compact]
    restore_test: {every: 30d, files: 3, canary: true}
    max_age: 36h
  broken: {hosts: [web1], repositories: [lost], paths: [%[1]s], schedule: {every: 6h}}
  travels: {hosts: [laptop], repositories: [main], paths: [/home], schedule: {every: 1d}, max_age: 2d}
notify:
  targets:
    ops: {url: "generic://127.0.0.1:9/hook"}
`, tree)
	if err := os.WriteFile(manifest, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.MustCLI("apply", "--yes", "-f", manifest)
	if out := c.CLI("backup", "broken"); out.Code != 4 {
		t.Fatalf("a plan without a repository ended with %d:\n%s%s", out.Code, out.Stdout, out.Stderr)
	}
	return c
}

// A person runs a plan on its page and sees it become fresh, pauses another, and
// keeps an alert quiet; no page is wider than a phone.
func TestPlansInABrowser(t *testing.T) {
	t.Parallel()
	c := plansScene(t)
	b := openBrowser(t)
	b.signIn(t, c)
	pictures := func(name string) {
		b.screenshot(t, name, 1280, "light")
		b.screenshot(t, name+"-narrow", 320, "dark")
	}

	b.visit(t, c.HTTP+"/plans")
	b.says(t, "web-daily")
	b.do(t, chromedp.Click(chromedp.CSS(`form[action="/plans/web-daily/run"] button`)))
	b.says(t, "restore-test") // the page of the run grows by itself
	b.says(t, "succeeded")
	pictures("run")
	b.visit(t, c.HTTP+"/plans/web-daily")
	b.says(t, "fresh")
	pictures("plan")

	b.visit(t, c.HTTP+"/plans/travels/pause")
	b.do(t, chromedp.Click(chromedp.CSS(`main form[method="post"] button`)))
	b.says(t, "paused")
	b.visit(t, c.HTTP+"/plans")
	pictures("plans")
	if out := c.MustCLI("plan", "show", "travels"); !strings.Contains(out, "paused") {
		t.Errorf("the command line does not know of the pause:\n%s", out)
	}

	b.visit(t, c.HTTP+"/calendar")
	b.says(t, "web-daily")
	pictures("calendar")
	b.visit(t, c.HTTP+"/alerts")
	b.says(t, "broken")
	b.visit(t, c.HTTP+"/alerts/silence?kind=failed&plan=broken")
	pictures("silence")
	b.do(t, chromedp.SendKeys(chromedp.CSS(`[name="reason"]`), "known since Monday"), chromedp.Click(chromedp.CSS(`main form[method="post"] button`)))
	b.says(t, "known since Monday")
	pictures("alerts")
	if out := c.MustCLI("alert", "silences"); !strings.Contains(out, "broken") {
		t.Errorf("the command line does not know of the silence:\n%s", out)
	}
	for path, name := range map[string]string{
		"/notifications": "notifications", "/new-plan?like=web-daily": "new-plan", "/plans/web-daily/change": "change-plan", "/plans/broken": "plan-broken", "/": "overview-plans",
	} {
		b.visit(t, c.HTTP+path)
		pictures(name)
	}
	if len(b.complaints) > 0 {
		t.Errorf("the browser complains:\n%s", strings.Join(b.complaints, "\n"))
	}
}
