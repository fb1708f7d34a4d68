//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// kustomize renders a folder of deploy/kubernetes. Debian 12's kubectl 1.20 gets
// a copy in its own words for two fields, of which later versions warn.
func kustomize(t *testing.T, dir string) string {
	t.Helper()
	root := "../deploy/kubernetes"
	if strings.Contains(output(t, nil, "kubectl", "version", "--client"), `GitVersion:"v1.20.`) {
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(root)); err != nil {
			t.Fatal(err)
		}
		root = copied
		name := filepath.Join(root, dir, "kustomization.yaml")
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		old := strings.NewReplacer("resources:\n  - ../", "bases:\n  - ../", "patches:", "patchesStrategicMerge:", "- path: ", "- ")
		if err := os.WriteFile(name, []byte(old.Replace(string(text))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := spawn(t, nil, nil, program(t, "kubectl"), "kustomize", filepath.Join(root, dir))
	if code := p.wait(t, patience); code != 0 || p.stderr.String() != "" {
		t.Fatalf("kubectl kustomize %s: exit code %d\n%s", dir, code, p.stderr.String())
	}
	return p.stdout.String()
}

func TestKustomizationsRender(t *testing.T) {
	every := []string{
		"kind: Deployment",
		"kind: Service",
		"startupProbe:",
		"readinessProbe:",
		"livenessProbe:",
		"runAsNonRoot: true",
		"readOnlyRootFilesystem: true",
		"allowPrivilegeEscalation: false",
		"enableServiceLinks: false",
		"automountServiceAccountToken: false",
		"limits:",
		"requests:",
	}
	rolling := []string{"kind: PodDisruptionBudget", "unhealthyPodEvictionPolicy: AlwaysAllow", "type: RollingUpdate", "maxUnavailable: 0",
		"topologySpreadConstraints:", "terminationGracePeriodSeconds: 30"}
	for _, tt := range []struct {
		dir      string
		promises []string // each a pattern for a whole line
		never    []string
	}{
		{".", append(rolling, `httpGet:`, `path: /health`), []string{`exec:`}},
		{"locked", append(rolling,
			`value: aksk,jwt`,
			`- name: HEALTHD_AKSK_FILE`,
			`- name: HEALTHD_JWT_SECRET_FILE`,
			`- name: HEALTHD_TLS_CERT`,
			`- name: HEALTHD_TLS_KEY`,
			`fsGroup: 65532`,
			`defaultMode: 0?\d+`,
			`secretName: healthd-keys`,
			`secretName: healthd-tls`,
			`port: 443`,
		), []string{`httpGet:`, `port: 80`, `kind: Secret`, `subPath:.*`, `timeoutSeconds: [12]`}},
		{"sidecar", []string{`initContainers:`, `restartPolicy: Always`, `value: tcp://127.0.0.1:6379`}, []string{`exec:`, `kind: Secret`}},
	} {
		t.Run(tt.dir, func(t *testing.T) {
			render := kustomize(t, tt.dir)
			holds := func(pattern string) bool { return regexp.MustCompile(`(?m)^[ -]*` + pattern + `$`).MatchString(render) }
			for _, promise := range append(every, tt.promises...) {
				if !holds(promise) {
					t.Errorf("the render holds no %q", promise)
				}
			}
			for _, never := range tt.never {
				if holds(never) {
					t.Errorf("the render holds %q", never)
				}
			}
			if t.Failed() {
				t.Log(render)
			}
		})
	}
}

// numbers returns what the pattern's one group finds, everywhere.
func numbers(t *testing.T, text, pattern string) (all []int) {
	t.Helper()
	for _, found := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		n, err := strconv.Atoi(found[1])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
	}
	if all == nil {
		t.Fatalf("nothing matches %q in\n%s", pattern, text)
	}
	return all
}

func TestKubernetesWaitsForTheDrainBeforeItKills(t *testing.T) {
	for _, dir := range []string{".", "locked"} {
		render := kustomize(t, dir)
		grace := numbers(t, render, `\n {6}terminationGracePeriodSeconds: (\d+)`)[0] // the pod's
		drain := numbers(t, render, `HEALTHD_DRAIN\s+value: (\d+)s`)[0]
		if grace <= drain+10 {
			t.Errorf("%s: grace period %d s, want more than the drain of %d s and the 10 s for what is in flight", dir, grace, drain)
		}
	}
}

// probeTimes are the seconds of one probe, and how often it must fail.
type probeTimes struct{ delay, period, timeout, threshold, grace int }

// latest is how long after a container hangs the kubelet has killed it at the
// latest, earliest when it gives it up at the earliest.
func (p probeTimes) latest() int   { return p.delay + p.period*p.threshold + p.timeout + p.grace }
func (p probeTimes) earliest() int { return p.period * (p.threshold - 1) }

// timesOf returns those of the first probe of a kind in a render. What is not
// there is 0, but for the grace, which then is the pod's.
func timesOf(t *testing.T, render, kind string) probeTimes {
	t.Helper()
	found := regexp.MustCompile(`(?m)^( +)` + kind + `Probe:\n`).FindStringSubmatchIndex(render)
	if found == nil {
		t.Fatalf("no %sProbe in\n%s", kind, render)
	}
	deeper := render[found[2]:found[3]] + " "
	var probe strings.Builder
	for line := range strings.Lines(render[found[1]:]) {
		if !strings.HasPrefix(line, deeper) {
			break
		}
		probe.WriteString(line)
	}
	second := func(name string, unset int) int {
		if !strings.Contains(probe.String(), name) {
			return unset
		}
		return numbers(t, probe.String(), name+`: (\d+)`)[0]
	}
	return probeTimes{
		delay:     second("initialDelaySeconds", 0),
		period:    second("periodSeconds", 10),
		timeout:   second("timeoutSeconds", 1),
		threshold: second("failureThreshold", 3),
		grace:     second("terminationGracePeriodSeconds", 30),
	}
}

// A process that hangs hears no SIGTERM, so the pod's grace is only waited for.
func TestKubernetesWaitsForNoHealthdThatHangs(t *testing.T) {
	for dir, within := range map[string]int{".": 35, "locked": 65} {
		times := timesOf(t, kustomize(t, dir), "liveness")
		if times.latest() > within || times.grace > 5 {
			t.Errorf("%s: killed after %d s at the latest, %+v; want %d s", dir, times.latest(), times, within)
		}
	}
}

func TestEveryLockedProbeIsHealthdItself(t *testing.T) {
	render := kustomize(t, "locked")
	probe := regexp.MustCompile(`(startup|readiness|liveness)Probe:\s+exec:\s+command:\s+- /healthd\s+- probe\s`)
	if got := len(probe.FindAllString(render, -1)); got != 3 {
		t.Errorf("%d exec probes, want 3:\n%s", got, render)
	}
}

func TestSidecarIsAskedByTheOtherContainersProbes(t *testing.T) {
	render := kustomize(t, "sidecar")
	// Keys are rendered in the order of the alphabet: containers, initContainers.
	containers, sidecars, found := strings.Cut(render, "initContainers:")
	if !found {
		t.Fatalf("no initContainers:\n%s", render)
	}
	port := numbers(t, sidecars, `containerPort: (\d+)`)[0]
	asked := numbers(t, containers, `httpGet:\s+path: /health\s+port: (\d+)\s`)
	if len(asked) != 3 {
		t.Errorf("%d probes of the main container ask /health, want 3", len(asked))
	}
	for _, asks := range asked {
		if asks != port {
			t.Errorf("a probe asks port %d, and the sidecar listens on %d", asks, port)
		}
	}
	// It would wait for a target that starts only after it.
	if strings.Contains(sidecars, "startupProbe:") {
		t.Errorf("the sidecar has a startupProbe:\n%s", sidecars)
	}
	if !strings.Contains(sidecars, "name: healthd\n") || !strings.Contains(sidecars, "restartPolicy: Always\n") {
		t.Errorf("healthd is no sidecar:\n%s", sidecars)
	}
}

// The common case is a neighbour that fails: it is restarted soon, and has its
// time to start in before healthd is suspected.
func TestSidecarIsTheLastSuspect(t *testing.T) {
	containers, sidecars, _ := strings.Cut(kustomize(t, "sidecar"), "initContainers:")
	healthd, redis, starting := timesOf(t, sidecars, "liveness"), timesOf(t, containers, "liveness"), timesOf(t, containers, "startup")
	// A check of the target in each interval, and a second look after a second, each
	// with its timeout of 1 s.
	notices := numbers(t, sidecars, `HEALTHD_INTERVAL\s+value: (\d+)s`)[0] + 3
	if got := notices + redis.latest(); got > 40 {
		t.Errorf("a neighbour that is down is killed after %d s, want 40 s at the most", got)
	}
	toStart := starting.period * starting.threshold
	if toStart < 55 || toStart > 65 {
		t.Errorf("the neighbour has %d s to start in, want about 60 s", toStart)
	}
	if again := redis.latest() + toStart; healthd.earliest() <= again {
		t.Errorf("healthd is killed after %d s at the earliest; its neighbour may take %d s to be killed and to start again", healthd.earliest(), again)
	}
	if got := healthd.latest() - healthd.delay; got > 130 {
		t.Errorf("a healthd that hangs is killed after %d s, want about two minutes", got)
	}
	if !strings.Contains(sidecars, "httpGet:\n") {
		t.Errorf("a healthd that hangs is not found out:\n%s", sidecars)
	}
}

// So a tcpSocket probe takes a healthd that hangs for a good one.
func TestAHealthdThatHangsAcceptsConnectionsAndAnswersNone(t *testing.T) {
	i := start(t, nil)
	i.signal(t, syscall.SIGSTOP)
	conn := dial(t, i.addr)
	fmt.Fprint(conn, "GET /health HTTP/1.0\r\n\r\n")
	conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes, %v; want nothing for as long as it hangs", n, err)
	}
	i.signal(t, syscall.SIGCONT)
	if got := get(t, i.addr); got.code != 200 {
		t.Errorf("when it goes on: %+v", got)
	}
}

// The unit is verified as it is but for the path of the binary, which need not
// be installed here.
func TestSystemdUnitIsValidAndSandboxed(t *testing.T) {
	const installed = "/usr/local/bin/healthd"
	text, err := os.ReadFile("../deploy/systemd/healthd.service")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "ExecStart="+installed) {
		t.Fatalf("ExecStart is not %s", installed)
	}
	unit := filepath.Join(t.TempDir(), "healthd.service")
	if err := os.WriteFile(unit, []byte(strings.ReplaceAll(string(text), installed, binary())), 0o644); err != nil {
		t.Fatal(err)
	}
	verify := spawn(t, nil, nil, program(t, "systemd-analyze"), "verify", "--man=no", unit)
	// A setting that it does not know is a line on stderr, not an exit code.
	if code := verify.wait(t, patience); code != 0 || verify.stderr.String() != "" {
		t.Errorf("systemd-analyze verify: exit code %d\n%s", code, verify.stderr.String())
	}
	// The exposure, from 0 (none) to 100, must stay under the threshold.
	output(t, nil, "systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", unit)
}

func TestHAProxyFindsNothingToSayAboutItsConfiguration(t *testing.T) {
	ca := written(t, newCertificate(t, ecdsaKey(t)).cert)
	for name, env := range map[string][]string{
		"open":   nil,
		"locked": {"HEALTHD_ACCESS_KEY=a", "HEALTHD_SECRET_KEY=b", "HEALTHD_CA=" + ca},
	} {
		check := spawn(t, nil, env, program(t, "haproxy"), "-c", "-f", "../deploy/haproxy.cfg")
		if code := check.wait(t, patience); code != 0 || check.stderr.String() != "" {
			t.Errorf("%s: haproxy -c: exit code %d\n%s", name, code, check.stderr.String())
		}
	}
}
