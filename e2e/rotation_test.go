//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// replacing is every way in which a file gets other content.
var replacing = map[string]func(path, content string) error{
	"write": func(path, content string) error { return os.WriteFile(path, []byte(content), 0o600) },
	"rename": func(path, content string) error {
		if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
			return err
		}
		return os.Rename(path+".new", path)
	},
	"swap": func(path, content string) error {
		return swap(filepath.Dir(path), map[string]string{filepath.Base(path): content})
	},
}

// rotation is a lock whose file goes from the old credential to both, and to
// the new one.
type rotation struct {
	name, method, file string
	replace            func(content string)
	instance           *instance
	before, after      string // credentials
	old, new           *load  // clients that have them
}

// clientsOf adds clients that present a credential, and whom nothing may refuse
// or disconnect: one that keeps its connection, and one that does not.
func (r *rotation) clientsOf(l *load, credential string) {
	header := authorization(r.method, credential)
	for _, fresh := range []bool{false, true} {
		l.add(client{addr: r.instance.addr, fresh: fresh, header: header}, 2*pace, func(c *client) error {
			if a, err := c.get("/health"); err != nil || a.code != http.StatusOK || a.body != healthy || a.last {
				return fmt.Errorf("%+v, %v", a, err)
			}
			return nil
		})
	}
}

// ask asks once with a credential.
func (r *rotation) ask(t *testing.T, credential string) answer {
	t.Helper()
	a, err := (&client{addr: r.instance.addr, fresh: true, header: authorization(r.method, credential)}).get("/health")
	if err != nil {
		t.Fatalf("%s: %v", r.name, err)
	}
	return a
}

func (r *rotation) refused(a answer) bool {
	switch r.method {
	case "basic":
		return a.code == 401 && a.body == "Could not verify"
	case "aksk":
		return a.code == 401 && a.body == `{"message":"Unauthorized"}`
	}
	return a.code == 403 && a.body == invalid
}

// While the file holds a credential, not one request with it is refused,
// however the file came to hold it, and from the moment that it does. Ten
// seconds after the file no longer holds it, every one is.
func TestRotationUnderLoadRefusesNoValidKey(t *testing.T) {
	var all []*rotation
	for _, method := range []string{"basic", "aksk", "jwt"} {
		for how, replace := range replacing {
			r := &rotation{
				name: method + " by " + how, method: method, file: filepath.Join(t.TempDir(), "credentials"),
				before: newCredential(method), after: newCredential(method), old: newLoad(t), new: newLoad(t),
			}
			r.replace = func(content string) {
				t.Helper()
				if err := replace(r.file, content); err != nil {
					t.Fatalf("%s: %v", r.name, err)
				}
			}
			r.replace(r.before + "\n")
			r.instance = start(t, []string{"HEALTHD_AUTH=" + method, setting(method) + "_FILE=" + r.file})
			all = append(all, r)
		}
	}
	const some = 20

	for _, r := range all {
		r.clientsOf(r.old, r.before)
		r.old.more(t, some)
	}
	for _, r := range all {
		r.replace("of no form\n")
		if got := r.ask(t, r.after); !r.refused(got) { // healthd looks at the file
			t.Errorf("%s: before it is in the file: %+v", r.name, got)
		}
		eventually(t, r.name+": a bad file is an error in the log", func() bool {
			return strings.Contains(r.instance.stderr.String(), "level=ERROR")
		})
		r.old.more(t, some)
	}
	for _, r := range all {
		r.replace("# the new one signs and probes\r\n" + r.after + "\r\n\r\n" + r.before)
		r.clientsOf(r.new, r.after)
	}
	for _, r := range all {
		r.old.more(t, some)
		r.new.more(t, some)
		r.old.report(t, r.name+", the old one")
	}

	removed := time.Now()
	for _, r := range all {
		r.replace(r.after + "\n")
	}
	for _, r := range all {
		eventually(t, r.name+": the removed one is refused", func() bool { return r.refused(r.ask(t, r.before)) })
		if took := time.Since(removed); took > 10*time.Second {
			t.Errorf("%s: the removed one was refused only after %v", r.name, took)
		}
	}
	t.Logf("the removed ones were refused after %v at most", time.Since(removed).Round(time.Second/10))
	for _, r := range all {
		for range some {
			if got := r.ask(t, r.before); !r.refused(got) {
				t.Fatalf("%s: the removed one is admitted again: %+v", r.name, got)
			}
		}
		r.new.more(t, some)
		r.new.report(t, r.name+", the new one")
	}
}
