package reload

import (
	"bytes"
	"context"
	"errors"
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

func newRoom(t *testing.T) *room {
	t.Helper()
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
	return r
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
	if r.refresh(); r.Get() != value {
		t.Errorf("the value is %q, want %q", r.Get(), value)
	}
}

// logged wants exactly these messages since the last call, with the setting and
// without a secret.
func (r *room) logged(t *testing.T, messages ...string) {
	t.Helper()
	log := r.log.String()
	r.log.Reset()
	lines := strings.Split(strings.TrimSuffix(log, "\n"), "\n")
	if log == "" {
		lines = nil
	}
	if len(lines) != len(messages) {
		t.Errorf("the log holds\n%swant %q", log, messages)
		return
	}
	for i, message := range messages {
		if !strings.Contains(lines[i], message) || !strings.Contains(lines[i], "HEALTHD_FILE") {
			t.Errorf("the log says %q, want %q and the setting", lines[i], message)
		}
	}
	if strings.Contains(log, "s3cret") {
		t.Errorf("the log tells a secret: %s", log)
	}
}

const (
	reloaded = `level=INFO msg=reloaded`
	stays    = `level=ERROR msg="cannot reload; the last good value stays in use"`
)

func TestANewFileIsFoundHoweverItComes(t *testing.T) {
	t.Parallel()
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
		{"renamed", func(t *testing.T, r *room) {
			must(t, os.WriteFile(r.path+".new", []byte("s3cret-2"), 0o600))
			must(t, os.Rename(r.path+".new", r.path))
		}},
		{"removed and made again", func(t *testing.T, r *room) {
			must(t, os.Remove(r.path))
			r.read(t, "s3cret-1")
			r.logged(t, stays)
			r.write(t, "s3cret-2")
		}},
		{"swapped with its folder, as the kubelet does", func(t *testing.T, r *room) {
			swap(t, r.dir, "2026_a", map[string]string{"s3cret-path": "s3cret-1"})
			r.read(t, "s3cret-1")
			swap(t, r.dir, "2026_b", map[string]string{"s3cret-path": "s3cret-2"})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRoom(t)
			tt.replace(t, r)
			r.read(t, "s3cret-2")
			r.logged(t, reloaded)
			r.read(t, "s3cret-2")
			r.logged(t)
			if parsed := r.parsed; parsed != 2 {
				t.Errorf("two contents were parsed %d times", parsed)
			}
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
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, r *room){
		"bad":     func(t *testing.T, r *room) { r.write(t, "bad s3cret") },
		"empty":   func(t *testing.T, r *room) { r.write(t, "") },
		"missing": func(t *testing.T, r *room) { must(t, os.Remove(r.path)) },
		"a link to nothing": func(t *testing.T, r *room) {
			must(t, os.Remove(r.path))
			must(t, os.Symlink("..data/file", r.path))
		},
		"a folder": func(t *testing.T, r *room) {
			must(t, os.Remove(r.path))
			must(t, os.Mkdir(r.path, 0o700))
		},
		"a FIFO": func(t *testing.T, r *room) {
			must(t, os.Remove(r.path))
			must(t, syscall.Mkfifo(r.path, 0o600))
		},
		"a device without end": func(t *testing.T, r *room) {
			must(t, os.Remove(r.path))
			must(t, os.Symlink("/dev/zero", r.path))
		},
		"more than 1 MiB": func(t *testing.T, r *room) { r.write(t, strings.Repeat("s3cret", 200_000)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRoom(t)
			for range 2 { // it goes wrong twice, and is told of each time
				spoil(t, r)
				for range 3 {
					r.read(t, "s3cret-1")
				}
				r.logged(t, stays)
				if _, err := New("HEALTHD_FILE", nil, r.parse, r.files...); err == nil || !strings.Contains(err.Error(), "HEALTHD_FILE: ") {
					t.Errorf("at the start: %v, want an error with the setting", err)
				}
				must(t, os.RemoveAll(r.path))
				r.write(t, "s3cret-1")
				r.read(t, "s3cret-1")
				r.logged(t, reloaded)
			}
			r.write(t, "s3cret-2")
			r.read(t, "s3cret-2")
			r.logged(t, reloaded)
		})
	}
}

func TestWatchFindsAChangeWithin10s(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t)
		ctx, cancel := context.WithCancel(t.Context())
		var watching sync.WaitGroup
		watching.Go(func() { r.Watch(ctx) })
		for _, content := range []string{"s3cret-2", "s3cret-3", "s3cret-4"} {
			r.write(t, content)
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if r.Get() != content {
				t.Errorf("10 s after the change to %q it is %q", content, r.Get())
			}
			time.Sleep(1700 * time.Millisecond) // out of step with the timer
		}
		cancel()
		watching.Wait()
	})
}

func TestSIGHUPReadsAtOnce(t *testing.T) {
	r := newRoom(t)
	go r.Watch(t.Context())
	r.Refresh() // it watches, and is notified of signals
	r.write(t, "s3cret-2")
	must(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	for begun := time.Now(); r.Get() != "s3cret-2"; runtime.Gosched() {
		if time.Since(begun) > every/2 {
			t.Fatal("not read")
		}
	}
}

// What is in the file when Refresh is called is the value when it returns.
func TestRefreshMissesNothing(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	go r.Watch(t.Context())
	missed := 0
	for i := range 200 {
		content := "s3cret-" + time.Duration(i).String()
		must(t, os.WriteFile(r.path+".new", []byte(content), 0o600))
		must(t, os.Rename(r.path+".new", r.path))
		var asking sync.WaitGroup
		for range 4 {
			asking.Go(r.Refresh)
		}
		asking.Wait()
		if r.Get() != content {
			missed++ // the machine may be too busy to read in some milliseconds
		}
	}
	if missed > 20 {
		t.Errorf("%d of 200 changes were missed", missed)
	}
}

func TestRefreshWaitsForNoDiskThatHangs(t *testing.T) {
	t.Parallel()
	release, reading := make(chan struct{}), make(chan struct{})
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, []byte("1"), 0o600))
	v, err := New("HEALTHD_FILES", slog.New(slog.DiscardHandler), func(contents [][]byte) (string, error) {
		if string(contents[0]) == "2" {
			close(reading)
			<-release // as a disk may
		}
		return string(contents[0]), nil
	}, File{"HEALTHD_FILE", path})
	must(t, err)
	go v.Watch(t.Context())
	must(t, os.WriteFile(path, []byte("2"), 0o600))
	v.Refresh()
	<-reading
	begun := time.Now()
	for range 10 {
		v.Refresh()
	}
	if took := time.Since(begun); took > 5*time.Second || v.Get() != "1" {
		t.Errorf("ten refreshes took %v, and the value is %q", took, v.Get())
	}
	close(release)
}

func TestAFixedValueNeverChanges(t *testing.T) {
	t.Parallel()
	v := Fixed(1)
	v.Watch(t.Context()) // returns at once
	if v.Refresh(); v.Get() != 1 {
		t.Errorf("a refresh changed it to %d", v.Get())
	}
}

// Nobody gets halves of two pairs, and nobody misses the last one.
func TestManyRefreshWhileAPairIsSwapped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	swap(t, dir, "first", map[string]string{"cert": "0", "key": "0"})
	v, err := New("HEALTHD_FILES", slog.New(slog.DiscardHandler), func(contents [][]byte) (string, error) {
		if !bytes.Equal(contents[0], contents[1]) {
			return "torn", errors.New("the key does not fit its certificate")
		}
		return string(contents[0]), nil
	}, File{"CERT", filepath.Join(dir, "cert")}, File{"KEY", filepath.Join(dir, "key")})
	must(t, err)
	go v.Watch(t.Context())
	done := make(chan struct{})
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if v.Refresh(); len(v.Get()) != 1 {
					t.Errorf("the value is %q", v.Get())
				}
			}
		})
	}
	last := ""
	for i := range 100 {
		last = string(rune('a' + i%26))
		swap(t, dir, "version"+time.Duration(i).String(), map[string]string{"cert": last, "key": last})
	}
	close(done)
	asking.Wait()
	for range 100 {
		if v.Refresh(); v.Get() == last {
			return
		}
	}
	t.Errorf("the value is %q, want the last, %q", v.Get(), last)
}
