package reload

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestMain starts what listens for signals, which a synctest bubble must not own.
func TestMain(m *testing.M) {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	os.Exit(m.Run())
}

// room is a Value of one file, whose content must not begin with "bad", and
// everything around it.
type room struct {
	*Value[string]
	dir, path string
	log       bytes.Buffer
	parsed    int
}

// test runs f with a room that is watched, under a fake clock: as that stands still
// while a file is read, no Refresh gives up before.
func test(t *testing.T, f func(t *testing.T, r *room)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &room{dir: t.TempDir()}
		r.path = filepath.Join(r.dir, "s3cret-path")
		r.write(t, "s3cret-1")
		var err error
		r.Value, err = New("HEALTHD_FILE", slog.New(slog.NewTextHandler(&r.log, nil)), func(contents [][]byte) (string, error) {
			r.parsed++
			if s := string(contents[0]); s != "" && !strings.HasPrefix(s, "bad") {
				return s, nil
			}
			return "", errors.New("not good")
		}, File{"HEALTHD_FILE", r.path})
		must(t, err)
		go r.Watch(t.Context())
		f(t, r)
	})
}

func (r *room) write(t *testing.T, content string) {
	t.Helper()
	must(t, os.WriteFile(r.path, []byte(content), 0o600))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// read wants this value once the files have been read.
func (r *room) read(t *testing.T, value string) {
	t.Helper()
	if r.Refresh(); r.Get() != value {
		t.Errorf("the value is %q, want %q", r.Get(), value)
	}
}

// logged wants one line since the last call, with this message, the setting and no
// secret; or none, if the message is empty.
func (r *room) logged(t *testing.T, message string) {
	t.Helper()
	log := r.log.String()
	r.log.Reset()
	if message == "" && log == "" {
		return
	}
	if message == "" || strings.Count(log, "\n") != 1 || !strings.Contains(log, message) ||
		!strings.Contains(log, "HEALTHD_FILE") || strings.Contains(log, "s3cret") {
		t.Errorf("the log holds %q, want one line with %q, the setting and no secret", log, message)
	}
}

const (
	reloaded = `level=INFO msg=reloaded`
	stays    = `level=ERROR msg="cannot reload; the last good value stays in use"`
)

func TestANewFileIsFoundHoweverItComes(t *testing.T) {
	for _, tt := range []struct {
		name    string
		replace func(t *testing.T, r *room) // "s3cret-1" by "s3cret-2"
	}{
		{"written", func(t *testing.T, r *room) { r.write(t, "s3cret-2") }},
		{"written, with the old time", func(t *testing.T, r *room) {
			before, err := os.Stat(r.path)
			must(t, err)
			r.write(t, "s3cret-2")
			must(t, os.Chtimes(r.path, before.ModTime(), before.ModTime()))
		}},
		{"saved on Windows, with a byte order mark", func(t *testing.T, r *room) { r.write(t, "\ufeffs3cret-2") }},
		{"swapped with its folder, as the kubelet does", func(t *testing.T, r *room) {
			swap(t, r.dir, "2026_a", map[string]string{"s3cret-path": "s3cret-1"})
			r.read(t, "s3cret-1")
			swap(t, r.dir, "2026_b", map[string]string{"s3cret-path": "s3cret-2"})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			test(t, func(t *testing.T, r *room) {
				tt.replace(t, r)
				r.read(t, "s3cret-2")
				r.logged(t, reloaded)
				r.read(t, "s3cret-2")
				r.logged(t, "")
				if r.parsed != 2 {
					t.Errorf("two contents were parsed %d times", r.parsed)
				}
			})
		})
	}
}

// swap makes a file in dir what Kubernetes' kubelet makes it when the content
// of a mounted Secret changes: file -> ..data/file, ..data -> ..version.
func swap(t *testing.T, dir, version string, files map[string]string) {
	t.Helper()
	must(t, os.Mkdir(filepath.Join(dir, ".."+version), 0o700))
	for name, content := range files {
		must(t, os.WriteFile(filepath.Join(dir, ".."+version, name), []byte(content), 0o600))
		must(t, os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name+".new")))
	}
	old, _ := os.Readlink(filepath.Join(dir, "..data"))
	must(t, os.Symlink(".."+version, filepath.Join(dir, "..data_tmp")))
	must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	for name := range files {
		must(t, os.Rename(filepath.Join(dir, name+".new"), filepath.Join(dir, name)))
	}
	if old != "" {
		must(t, os.RemoveAll(filepath.Join(dir, old)))
	}
}

func TestTheLastGoodValueStaysAndTheLogTellsOnce(t *testing.T) {
	holding := func(content string) func(path string) error {
		return func(path string) error { return os.WriteFile(path, []byte(content), 0o600) }
	}
	for name, spoil := range map[string]func(path string) error{
		"bad":                  holding("bad s3cret"),
		"empty":                holding(""),
		"more than 1 MiB":      holding(strings.Repeat("s3cret", 200_000)),
		"missing":              func(string) error { return nil },
		"a folder":             func(path string) error { return os.Mkdir(path, 0o700) },
		"a FIFO":               func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a device without end": func(path string) error { return os.Symlink("/dev/zero", path) },
		"a file of the kernel": func(path string) error { return os.Symlink("/proc/self/pagemap", path) },
	} {
		t.Run(name, func(t *testing.T) {
			test(t, func(t *testing.T, r *room) {
				for range 2 { // it goes wrong twice, and is told of each time
					must(t, os.Remove(r.path))
					must(t, spoil(r.path))
					for range 3 {
						r.read(t, "s3cret-1")
					}
					r.logged(t, stays)
					if _, err := New("HEALTHD_FILE", nil, r.parse, r.files...); err == nil || !strings.Contains(err.Error(), "HEALTHD_FILE: ") {
						t.Errorf("at the start: %v, want an error with the setting", err)
					}
					must(t, os.RemoveAll(r.path))
					r.write(t, "s3cret-1") // the same as before
					r.read(t, "s3cret-1")
					r.logged(t, reloaded)
				}
			})
		})
	}
}

func TestWatchFindsAChangeWithin10s(t *testing.T) {
	test(t, func(t *testing.T, r *room) {
		time.Sleep(1700 * time.Millisecond) // out of step with the timer
		r.write(t, "s3cret-2")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if r.Get() != "s3cret-2" {
			t.Errorf("10 s after the change it is %q", r.Get())
		}
	})
}

func TestSIGHUPReadsAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, []byte("1"), 0o600))
	v, err := New("HEALTHD_FILE", slog.New(slog.DiscardHandler), func(contents [][]byte) (string, error) {
		return string(contents[0]), nil
	}, File{"HEALTHD_FILE", path})
	must(t, err)
	go v.Watch(t.Context())
	must(t, os.WriteFile(path, []byte("2"), 0o600))
	for v.Get() != "2" {
		v.Refresh() // until it watches, and is notified of signals
	}
	must(t, os.WriteFile(path, []byte("3"), 0o600))
	must(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	for begun := time.Now(); v.Get() != "3"; runtime.Gosched() {
		if time.Since(begun) > 2*time.Second {
			t.Fatal("not read")
		}
	}
}

func TestRefreshWaitsForNoDiskThatHangs(t *testing.T) {
	test(t, func(t *testing.T, r *room) {
		parse, release := r.parse, make(chan struct{})
		r.parse = func(contents [][]byte) (string, error) {
			<-release // as a disk may
			return parse(contents)
		}
		r.write(t, "s3cret-2")
		begun := time.Now()
		for range 10 {
			r.read(t, "s3cret-1")
		}
		if took := time.Since(begun); took > 100*time.Millisecond {
			t.Errorf("ten refreshes took %v", took)
		}
		close(release)
		r.read(t, "s3cret-2")
	})
}

func TestAValueWithoutFilesNeverChanges(t *testing.T) {
	v, err := New("", nil, func([][]byte) (int, error) { return 1, nil })
	must(t, err)
	v.Watch(t.Context()) // returns at once
	if v.Refresh(); v.Get() != 1 {
		t.Errorf("a refresh changed it to %d", v.Get())
	}
}

// What is in the files when Refresh is called is the value when it returns, and nobody gets
// halves of two pairs.
func TestManyRefreshWhileAPairIsSwapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		swap(t, dir, "first", map[string]string{"cert": "first", "key": "first"})
		v, err := New("HEALTHD_FILES", slog.New(slog.DiscardHandler), func(contents [][]byte) (string, error) {
			if !bytes.Equal(contents[0], contents[1]) {
				return "torn", errors.New("the key does not fit its certificate")
			}
			return string(contents[0]), nil
		}, File{"CERT", filepath.Join(dir, "cert")}, File{"KEY", filepath.Join(dir, "key")})
		must(t, err)
		go v.Watch(t.Context())
		begun := time.Now()
		var asking sync.WaitGroup
		for i := range 100 {
			version := fmt.Sprint("version", i)
			for range 4 {
				asking.Go(func() {
					if v.Refresh(); v.Get() == "torn" {
						t.Error("the value is torn")
					}
				})
			}
			swap(t, dir, version, map[string]string{"cert": version, "key": version})
			for range 4 {
				asking.Go(func() {
					if v.Refresh(); v.Get() != version {
						t.Errorf("the value is %q, want %q", v.Get(), version)
					}
				})
			}
			asking.Wait()
		}
		if took := time.Since(begun); took > 0 {
			t.Errorf("it took %v beyond the reading", took)
		}
	})
}

// The probe makes do with the lines that parse.
func TestWhatParseMadeOfTheFirstContentStandsBesideItsError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, []byte("bad"), 0o600))
	v, err := New("HEALTHD_FILE", nil, func([][]byte) (string, error) { return "half", errors.New("bad") }, File{"HEALTHD_FILE", path})
	if err == nil || v.Get() != "half" {
		t.Errorf("%q, %v", v.Get(), err)
	}
}
