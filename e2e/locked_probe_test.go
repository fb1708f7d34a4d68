//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// probe runs "healthd probe" and returns its exit code and what it prints.
func probe(t *testing.T, env []string, args ...string) (code int, line string) {
	t.Helper()
	p := spawn(t, nil, env, binary(), append([]string{"probe"}, args...)...)
	return p.wait(t, patience), p.stdout.String()
}

func TestProbeOpensEveryLockThatItIsGiven(t *testing.T) {
	crt := newCertificate(t, ecdsaKey(t))
	for _, method := range []string{"basic", "aksk", "jwt"} {
		for _, over := range []struct {
			name string
			env  []string
		}{{"TCP", nil}, {"TLS", crt.install(t)}} {
			t.Run(method+" over "+over.name, func(t *testing.T) {
				credential := newCredential(method)
				auth := append([]string{"HEALTHD_AUTH=" + method}, over.env...)
				i := start(t, append(auth, setting(method)+"="+credential))
				auth = slices.Clip(append(auth, "HEALTHD_ADDR="+i.addr))
				file := written(t, "# the first is the one to probe with\r\n\r\n "+credential+" \r\n"+newCredential(method)+"\n")
				refused := "Token is invalid!"
				if method != "jwt" {
					refused = ""
				}
				for _, row := range []struct {
					name string
					env  []string
					code int
					line string // a part of it
				}{
					{"the variable", append(auth, setting(method)+"="+credential), 0, healthy},
					{"the file", append(auth, setting(method)+"_FILE="+file), 0, healthy},
					{"a wrong secret", append(auth, setting(method)+"="+newCredential(method)), 1, refused},
					{"no secret", append(over.env, "HEALTHD_ADDR="+i.addr), 1, ""},
				} {
					if code, line := probe(t, row.env); code != row.code || !strings.Contains(line, row.line) || strings.Count(line, "\n") != 1 {
						t.Errorf("%s: exit code %d, %q; want %d, %q", row.name, code, line, row.code, row.line)
					}
				}
			})
		}
	}
}

// An impostor on the port must not learn the password.
func TestProbeShowsItsCredentialToTheConfiguredCertificateOnly(t *testing.T) {
	lock := []string{"HEALTHD_AUTH=basic", "HEALTHD_BASIC=" + newPair()}
	impostor := start(t, append(newCertificate(t, ecdsaKey(t)).install(t), "HEALTHD_VERBOSE=true"))
	ours := append(newCertificate(t, ecdsaKey(t)).install(t), lock...)
	for _, args := range [][]string{nil, {"https://" + impostor.addr + "/health"}} { // pinned, and by the system's roots
		if code, line := probe(t, append(ours, "HEALTHD_ADDR="+impostor.addr, "HEALTHD_TIMEOUT=10s"), args...); code != 1 || !strings.Contains(line, "certificate") {
			t.Errorf("probe %q: exit code %d, %q", args, code, line)
		}
	}
	impostor.signal(t, syscall.SIGINT)
	impostor.wait(t, patience)
	if strings.Contains(impostor.stderr.String(), "msg=request") {
		t.Error("it has sent its request")
	}
}

// A Secret with everything in it is replaced as fast as the machine can.
func TestProbeWithoutTimeFails(t *testing.T) {
	if code, line := probe(t, []string{"HEALTHD_TIMEOUT=1ns"}); code != 1 || line == "" {
		t.Errorf("exit code %d, %q", code, line)
	}
}

func TestProbeNeverFailsWhileItsFilesAreSwapped(t *testing.T) {
	dir := t.TempDir()
	env := []string{"HEALTHD_AUTH=basic", "HEALTHD_BASIC_FILE=" + dir + "/basic",
		"HEALTHD_TLS_CERT=" + dir + "/tls.crt", "HEALTHD_TLS_KEY=" + dir + "/tls.key"}
	var secrets [100]map[string]string
	for n := range secrets {
		secrets[n] = newCertificate(t, ecdsaKey(t)).files()
		secrets[n]["basic"] = newPair()
	}
	if err := swap(dir, secrets[0]); err != nil {
		t.Fatal(err)
	}
	i := start(t, env)
	// Thousands of swaps a second may take a probe more than its second.
	env = append(env, "HEALTHD_ADDR="+i.addr, "HEALTHD_TIMEOUT=10s")

	done, swaps := make(chan struct{}), 0
	var swapping sync.WaitGroup
	swapping.Go(func() {
		for ; ; swaps++ {
			select {
			case <-done:
				return
			default:
			}
			if err := swap(dir, secrets[(swaps+1)%len(secrets)]); err != nil {
				t.Error(err)
				return
			}
		}
	})
	failed := make(map[string]int)
	const probes = 200
	for range probes {
		if code, line := probe(t, env); code != 0 {
			failed[fmt.Sprintf("exit code %d, %s", code, line)]++
		}
	}
	close(done)
	swapping.Wait()
	t.Logf("%d probes, %d swaps", probes, swaps)
	for how, n := range failed {
		t.Errorf("%d of %d probes: %s", n, probes, how)
	}
}
