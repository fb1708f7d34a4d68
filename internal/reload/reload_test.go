package reload

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

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
	r.path = filepath.Join(r.dir, "file")
	r.Value = New("s3cret-0", slog.New(slog.NewTextHandler(&r.log, nil)), func(contents [][]byte) (string, error) {
		r.parsed++
		if s := string(contents[0]); s != "" && !strings.HasPrefix(s, "bad") {
			return s, nil
		}
		return "", errors.New("not good")
	}, r.path)
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

// look wants this value after a look.
func (r *room) look(t *testing.T, value string) {
	t.Helper()
	if r.Look(); r.Get() != value {
		t.Errorf("the value is %q, want %q", r.Get(), value)
	}
}

// logged wants exactly these messages since the last call, and no secret.
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
		if !strings.Contains(lines[i], message) || !strings.Contains(lines[i], r.path) {
			t.Errorf("the log says %q, want %q and the path", lines[i], message)
		}
	}
	if strings.Contains(log, "s3cret") {
		t.Errorf("the log tells a secret: %s", log)
	}
}

const (
	reloaded   = `level=INFO msg=reloaded`
	unreadable = `level=ERROR msg="cannot read a file; its last good content stays in use"`
	unusable   = `level=ERROR msg="cannot use new file content; the last good stays in use"`
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
			r.look(t, "s3cret-1")
			r.logged(t, unreadable)
			r.write(t, "s3cret-2")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRoom(t)
			r.write(t, "s3cret-1")
			r.look(t, "s3cret-1")
			r.logged(t) // the first look confirms what was loaded before
			tt.replace(t, r)
			r.look(t, "s3cret-2")
			r.logged(t, reloaded)
			r.look(t, "s3cret-2")
			r.logged(t)
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
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); !errors.Is(err, os.ErrExist) {
			must(t, err)
		}
	}
	old, _ := os.Readlink(filepath.Join(dir, "..data"))
	must(t, os.Symlink(".."+version, filepath.Join(dir, "..data_tmp")))
	must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	if old != "" {
		must(t, os.RemoveAll(filepath.Join(dir, old)))
	}
}

func TestASwapOfDataIsFound(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	swap(t, r.dir, "2026_a", map[string]string{"file": "s3cret-1"})
	r.look(t, "s3cret-1")
	swap(t, r.dir, "2026_b", map[string]string{"file": "s3cret-2"})
	r.look(t, "s3cret-2")
	swap(t, r.dir, "2026_c", map[string]string{"file": "s3cret-2"})
	r.look(t, "s3cret-2")
	r.logged(t, reloaded)
}

func TestTheLastGoodValueStaysAndTheLogTellsOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, r *room)
		want  string // in the log
	}{
		{"bad", func(t *testing.T, r *room) { r.write(t, "bad s3cret") }, unusable},
		{"empty", func(t *testing.T, r *room) { r.write(t, "") }, unusable},
		{"missing", func(t *testing.T, r *room) { must(t, os.Remove(r.path)) }, unreadable},
		{"a link to nothing", func(t *testing.T, r *room) {
			must(t, os.Remove(r.path))
			must(t, os.Symlink("..data/file", r.path))
		}, unreadable},
		{"a directory", func(t *testing.T, r *room) {
			must(t, os.Remove(r.path))
			must(t, os.Mkdir(r.path, 0o700))
		}, unreadable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRoom(t)
			r.write(t, "s3cret-1")
			r.look(t, "s3cret-1")
			for range 2 { // it goes wrong twice, and is told of each time
				tt.spoil(t, r)
				for range 3 {
					r.look(t, "s3cret-1")
				}
				r.logged(t, tt.want)
				must(t, os.RemoveAll(r.path))
				r.write(t, "s3cret-1")
				r.Look()
				if r.Get() != "s3cret-1" {
					t.Errorf("mended, the value is %q", r.Get())
				}
				r.log.Reset()
			}
			r.write(t, "bad s3cret")
			r.look(t, "s3cret-1")
			r.write(t, "bad s3cret, otherwise")
			r.look(t, "s3cret-1")
			r.logged(t, unusable, unusable)
			r.write(t, "s3cret-2")
			r.look(t, "s3cret-2")
			r.logged(t, reloaded)
		})
	}
}

func TestABadFileAtTheFirstLookLeavesTheInitialValue(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.look(t, "s3cret-0")
	r.logged(t, unreadable)
	r.write(t, "bad")
	r.look(t, "s3cret-0")
	r.logged(t, unusable)
	r.write(t, "s3cret-1")
	r.look(t, "s3cret-1")
	r.logged(t, reloaded)
}

func TestSameContentIsNotParsedAgain(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.write(t, "s3cret-1")
	r.look(t, "s3cret-1")
	r.write(t, "s3cret-1")
	must(t, os.Chtimes(r.path, time.Now(), time.Now().Add(time.Hour)))
	r.look(t, "s3cret-1")
	if r.parsed != 1 {
		t.Errorf("parsed %d times", r.parsed)
	}
}

func TestNoFileNeverChanges(t *testing.T) {
	t.Parallel()
	v := New(1, nil, func([][]byte) (int, error) { panic("nothing to parse") })
	if v.Look(); v.Get() != 1 {
		t.Errorf("a look changed it to %d", v.Get())
	}
}

func TestWatchFindsAChangeWithin10s(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := newRoom(t), newRoom(t)
		ctx, cancel := context.WithCancel(t.Context())
		var watching sync.WaitGroup
		watching.Go(func() { Watch(ctx, a.Look, b.Look) })
		for _, content := range []string{"s3cret-1", "s3cret-2", "s3cret-3"} {
			a.write(t, content)
			b.write(t, content)
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if a.Get() != content || b.Get() != content {
				t.Errorf("10 s after the change to %q they are %q and %q", content, a.Get(), b.Get())
			}
			time.Sleep(1700 * time.Millisecond) // out of step with the timer
		}
		cancel()
		watching.Wait()
	})
}

// Nobody gets halves of two pairs, and nobody misses the last one.
func TestManyLookWhileAPairIsSwapped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	swap(t, dir, "first", map[string]string{"cert": "0", "key": "0"})
	v := New("0", slog.New(slog.DiscardHandler), func(contents [][]byte) (string, error) {
		if !bytes.Equal(contents[0], contents[1]) {
			return "torn", errors.New("the key does not fit its certificate")
		}
		return string(contents[0]), nil
	}, filepath.Join(dir, "cert"), filepath.Join(dir, "key"))
	done := make(chan struct{})
	var looking sync.WaitGroup
	for range 4 {
		looking.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if v.Look(); len(v.Get()) != 1 {
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
	looking.Wait()
	if v.Look(); v.Get() != last {
		t.Errorf("the value is %q, want the last, %q", v.Get(), last)
	}
}
