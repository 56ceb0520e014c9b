package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// browser is a headless Chromium that remembers every complaint of the page.
type browser struct {
	ctx context.Context

	mu         sync.Mutex
	complaints []string
}

func openBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v: run make setup", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.WSURLReadTimeout(harness.Patience))
	allocator, closeAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(closeAllocator)
	ctx, closeBrowser := chromedp.NewContext(allocator)
	t.Cleanup(func() { _ = chromedp.Cancel(ctx); closeBrowser() })
	b := &browser{ctx: ctx}
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatal(err)
	}
	b.do(t, command(log.Enable, cdp.Empty{}), command(runtime.Enable, cdp.Empty{}))
	return b
}

func (b *browser) listen(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.complain("exception: " + e.ExceptionDetails.Text)
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError {
			b.complain(e.Entry.Text + " " + e.Entry.URL)
		}
	}
}

func (b *browser) complain(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complaints = append(b.complaints, text)
}

func (b *browser) do(t *testing.T, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, harness.Patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// command is a protocol command as a step.
func command[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, c, params)
		return err
	})
}

func value[T any](t *testing.T, b *browser, action chromedp.Action[T]) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, harness.Patience)
	defer cancel()
	got, err := chromedp.Run(ctx, action)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// eval evaluates an expression in the page.
func eval[T any](t *testing.T, b *browser, expression string) T {
	t.Helper()
	return value(t, b, chromedp.Evaluate[T](expression))
}

// visit opens a page of the coordinator and waits for its heading.
func (b *browser) visit(t *testing.T, url string) {
	t.Helper()
	b.do(t, chromedp.Navigate(url), chromedp.WaitVisible(chromedp.CSS("h1")))
}

// signIn makes the first administrator, with the link that the first start
// printed, and stays signed in as such.
func (b *browser) signIn(t *testing.T, c *harness.Coordinator) {
	t.Helper()
	b.visit(t, setupLink(t, c))
	for field, text := range map[string]string{"f-name": "alice", "f-password": password, "f-again": password} {
		b.do(t, chromedp.SendKeys(chromedp.CSS("#"+field), text))
	}
	b.do(t, chromedp.Click(chromedp.CSS("form.card button")), chromedp.WaitVisible(chromedp.CSS(`form[action="/logout"]`)))
}

// screenshot keeps a picture below artifacts/, for the eye, and checks that
// neither the page nor a part of it scrolls sideways.
func (b *browser) screenshot(t *testing.T, name string, width int64, scheme string) {
	t.Helper()
	b.do(t,
		command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		}),
		chromedp.EmulateViewport(width, 900))
	if wide := eval[int64](t, b, `document.documentElement.scrollWidth`); wide > width {
		t.Errorf("%s: the page is %d wide in a window of %d", name, wide, width)
	}
	const cut = `[...document.querySelectorAll(".card:not(.tall)")].filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.innerText).join("\n")`
	if hidden := eval[string](t, b, cut); hidden != "" {
		t.Errorf("%s: a part is wider than its place:\n%s", name, hidden)
	}
	picture := value(t, b, chromedp.FullScreenshot(100))
	if err := os.MkdirAll("artifacts", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("artifacts", name+".png"), picture, 0o644); err != nil {
		t.Fatal(err)
	}
}

// scene is a small fleet with something of everything on its pages.
func scene(t *testing.T) (c *harness.Coordinator, running, waiting job.Job) {
	t.Helper()
	c = harness.StartCoordinator(t)
	c.AddAgent("web1", harness.AgentOptions{})
	c.AddAgent("db1", harness.AgentOptions{})
	c.MustCLI("host", "add", "laptop")
	c.AddRepository("web-main")
	c.AddRepository("db-main")
	c.Init("web1", "web-main")
	small, large := t.TempDir(), t.TempDir()
	harness.MakeTree(t, small, 40, 32<<10)
	harness.MakeTree(t, large, 200, 1<<20)
	backup := func(host, repo, path string) job.Job {
		return c.Submit(fmt.Sprintf(`{"host":%q,"kind":"backup","repository":%q,"spec":{"paths":[%q],"compression":"lzma,9"}}`, host, repo, path))
	}
	c.Await(backup("web1", "web-main", small).ID, job.Succeeded)
	c.Await(backup("web1", "web-main", small).ID, job.Succeeded)
	c.Await(backup("db1", "db-main", small).ID, job.Failed) // it was never initialised
	running = backup("web1", "web-main", large)
	c.Await(running.ID, job.Running)
	waiting = backup("db1", "web-main", small) // for the repository
	backup("laptop", "db-main", small)         // for its host
	return c, running, waiting
}

// The pages show a running backup live, without reloading, without a complaint
// of the browser, in every width and scheme.
func TestPagesInABrowser(t *testing.T) {
	t.Parallel()
	c, running, _ := scene(t)
	b := openBrowser(t)
	b.signIn(t, c)

	b.visit(t, c.HTTP+"/")
	if title := eval[string](t, b, `document.title`); !strings.Contains(title, "borgfleet") {
		t.Errorf("title %q", title)
	}
	text := func() string { return eval[string](t, b, `document.querySelector("main").innerText`) }
	for _, want := range []string{"web1", "db1", "laptop", "busy", "failed", "never"} {
		if !strings.Contains(text(), want) {
			t.Errorf("the overview does not say %q:\n%s", want, text())
		}
	}
	first := text()
	harness.Eventually(t, "the overview to move by itself", func() error {
		if text() == first {
			return errors.New("it stands still")
		}
		return nil
	})
	b.screenshot(t, "overview-light", 1280, "light")
	b.screenshot(t, "overview-dark", 1280, "dark")
	b.screenshot(t, "overview-phone", 390, "light")
	b.screenshot(t, "overview-narrow", 320, "dark")

	b.visit(t, c.HTTP+"/jobs/"+string(running.ID))
	b.do(t, chromedp.WaitVisible(chromedp.CSS(`[role=progressbar], progress`)))
	b.screenshot(t, "job-light", 1280, "light")
	b.screenshot(t, "job-phone", 390, "dark")
	for _, path := range []string{"/hosts", "/hosts/web1", "/hosts/laptop", "/repositories", "/repositories/web-main", "/jobs", "/jobs?state=failed", "/people", "/audit", "/enrol", "/account"} {
		b.visit(t, c.HTTP+path)
		name := "page" + strings.NewReplacer("/", "-", "?", "-", "=", "-").Replace(path)
		b.screenshot(t, name, 1280, "light")
		b.screenshot(t, name+"-narrow", 320, "light")
	}
	if len(b.complaints) > 0 {
		t.Errorf("the browser complains:\n%s", strings.Join(b.complaints, "\n"))
	}
}

// A person cancels a running job on its page, and sees it end there.
func TestCancelOnThePage(t *testing.T) {
	t.Parallel()
	c, running, waiting := scene(t)
	b := openBrowser(t)
	b.signIn(t, c)
	b.visit(t, c.HTTP+"/jobs/"+string(running.ID))
	b.do(t, chromedp.Click(chromedp.CSS(`form[action$="/cancel"] button`)), chromedp.WaitVisible(chromedp.CSS("h1")))
	c.Await(running.ID, job.Cancelled)
	harness.Eventually(t, "the page to say cancelled", func() error {
		if text := eval[string](t, b, `document.querySelector("h1").innerText`); !strings.Contains(text, "cancelled") {
			return fmt.Errorf("it says %q", text)
		}
		return nil
	})
	if title := eval[string](t, b, `document.querySelector("#log-title").innerText`); strings.Contains(title, "live") {
		t.Errorf("the log of a job that is over is still called %q", title)
	}
	b.screenshot(t, "job-cancelled", 1280, "light")
	c.Await(waiting.ID, job.Succeeded) // its turn came
}

// Without JavaScript the page is complete; with the keyboard alone, every link
// and button is reached.
func TestPagesWithoutScriptAndByKeyboard(t *testing.T) {
	t.Parallel()
	c, running, _ := scene(t)
	harness.Eventually(t, "the first line of the log", func() error {
		if log := c.MustCLI("job", "log", string(running.ID)); !strings.Contains(log, "borg create") {
			return errors.New("the log is empty")
		}
		return nil
	})
	b := openBrowser(t)
	b.signIn(t, c)
	b.do(t, command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}))
	b.visit(t, c.HTTP+"/jobs/"+string(running.ID))
	html := value(t, b, chromedp.OuterHTML(chromedp.CSS("html")))
	for _, want := range []string{"web1", "running", "borg create", "Cancel"} {
		if !strings.Contains(html, want) {
			t.Errorf("without JavaScript the page lacks %q", want)
		}
	}
	b.do(t, command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: false}))
	b.visit(t, c.HTTP+"/repositories/db-main") // nothing moves here
	const places = `[...document.querySelectorAll("a[href],button,input:not([type=hidden]),select,textarea,summary")].filter(e => e.checkVisibility())`
	total := eval[int](t, b, places+`.length`)
	for range total + 5 {
		b.do(t, chromedp.KeyEvent("\t"))
		eval[bool](t, b, `(document.activeElement.reached = true)`)
	}
	if missed := eval[string](t, b, places+`.filter(e => !e.reached).map(e => e.outerHTML.slice(0, 100)).join("\n")`); missed != "" {
		t.Errorf("the keyboard does not reach:\n%s", missed)
	}
}

// An admin adds a host on the page: the line that it shows is run on the host,
// and the page says by itself that the host is there.
func TestAddingAHostOnThePage(t *testing.T) {
	t.Parallel()
	c := harness.StartCoordinator(t)
	b := openBrowser(t)
	b.signIn(t, c)
	b.visit(t, c.HTTP+"/enrol")
	b.do(t, chromedp.SendKeys(chromedp.CSS(`input[name="host"]`), "web1"), chromedp.Click(chromedp.CSS(`form[action="/enrol"] button`)),
		chromedp.WaitVisible(chromedp.CSS(".handed code"))) // which the form's page has not
	token := regexp.MustCompile(`bfe1_[\w-]+`).FindString(eval[string](t, b, `document.querySelector("main").innerText`))
	if token == "" {
		t.Fatalf("the page shows no token:\n%s", eval[string](t, b, `document.querySelector("main").innerText`))
	}
	b.screenshot(t, "enrol-waiting", 1280, "light")
	b.screenshot(t, "enrol-waiting-narrow", 320, "dark")
	dir := t.TempDir()
	harness.Start(t, "agent web1", nil, harness.Binary(t, "borgfleet-agent"), "enroll", "--token", token,
		"--config", filepath.Join(dir, "agent.yaml"), "--data", filepath.Join(dir, "agent"), "--run")
	t.Cleanup(func() { harness.KillAll(t, dir) })
	harness.Eventually(t, "the page to show the new host", func() error {
		if text := eval[string](t, b, `document.querySelector("main").innerText`); !strings.Contains(text, "web1 is connected") {
			return fmt.Errorf("it says %q", text)
		}
		return nil
	})
	b.screenshot(t, "enrol-connected", 1280, "light")
	if html := eval[string](t, b, `document.documentElement.outerHTML`); strings.Contains(html, token) {
		t.Log("the spent token is still on the page")
	}
	if len(b.complaints) > 0 {
		t.Errorf("the browser complains:\n%s", strings.Join(b.complaints, "\n"))
	}
}
