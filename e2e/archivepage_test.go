package e2e_test

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"golang.org/x/sys/unix"

	"github.com/borgfleet/borgfleet/e2e/harness"
)

// says waits until the page shows a text.
func (b *browser) says(t *testing.T, want string) {
	t.Helper()
	harness.Eventually(t, fmt.Sprintf("the page to say %q", want), func() error {
		if text := eval[string](t, b, `document.querySelector("main")?.innerText ?? ""`); !strings.Contains(text, want) {
			return errors.New(text)
		}
		return nil
	})
}

// A person goes from a repository to a file of an archive: has it listed, walks
// through its directories, downloads, searches, compares, and mounts it.
func TestArchivesInABrowser(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	at := filepath.Join(s.restore, "mnt")
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	b := openBrowser(t)
	b.signIn(t, s.c)
	page := func(path string) string { return s.c.HTTP + "/repositories/main" + path }
	pictures := func(name string) {
		b.screenshot(t, name, 1280, "light")
		b.screenshot(t, name+"-narrow", 320, "dark")
	}

	b.visit(t, page(""))
	b.says(t, s.young)
	pictures("repository-archives")
	b.visit(t, page("/archives"))
	b.says(t, s.old)
	pictures("archives")
	b.visit(t, page("/archives/"+s.young))
	pictures("archive")

	files := page("/archives/" + s.young + "/files?path=" + url.QueryEscape(s.stored("notes")))
	b.visit(t, files)
	b.says(t, "not listed")
	b.do(t, chromedp.Click(chromedp.CSS(`form[action*="/files"] button.main`)))
	b.says(t, "to do.txt") // without a click or a reload
	pictures("files")
	content := eval[string](t, b, `(() => {
		const link = [...document.querySelectorAll('a[href*="/download"]')].find(a => /to(%20|\+)do.txt/.test(a.href));
		const request = new XMLHttpRequest();
		request.open("GET", link ? link.href : "/none", false);
		request.send();
		return request.responseText;
	})()`)
	if content != "one\ntwo\n" {
		t.Errorf("downloaded %q", content)
	}
	b.visit(t, s.c.HTTP+"/find?name=TO+DO")
	b.says(t, "to do.txt")
	pictures("find")
	b.visit(t, page("/history?path="+url.QueryEscape(s.stored("notes", "to do.txt"))))
	b.says(t, s.young)
	pictures("history")

	b.visit(t, page("/archives/"+s.old+"/compare?other="+s.young))
	b.do(t, chromedp.Click(chromedp.CSS("form.card button.main")))
	b.says(t, "New.txt")
	pictures("job-diff")
	b.visit(t, page("/prune?keep_last=1"))
	b.do(t, chromedp.Click(chromedp.CSS("form.card button.main")))
	b.says(t, "secondly #1") // borg's rule behind keep_last
	pictures("job-prune-preview")

	b.visit(t, page("/archives/"+s.young+"/mount?mount_point="+url.QueryEscape(at)))
	b.do(t, chromedp.Click(chromedp.CSS("form.card button.main")))
	b.do(t, chromedp.WaitVisible(chromedp.CSS(`form[action$="/unmount"] button`)))
	harness.Eventually(t, "the file in the mount", func() error {
		got, err := os.ReadFile(filepath.Join(at, s.data, "notes", "New.txt"))
		if err == nil && string(got) != "new\n" {
			err = fmt.Errorf("it holds %q", got)
		}
		return err
	})
	pictures("job-mounted")
	b.visit(t, s.c.HTTP+"/")
	b.says(t, at)
	b.do(t, chromedp.Click(chromedp.CSS(`form[action$="/unmount"] button`)))
	s.unmounted(t, at)
	if len(b.complaints) > 0 {
		t.Errorf("the browser complains:\n%s", strings.Join(b.complaints, "\n"))
	}
}
