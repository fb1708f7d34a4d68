//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestKustomizeBaseRenders(t *testing.T) {
	render := output(t, nil, "kubectl", "kustomize", "../deploy/kubernetes")
	for _, promise := range []string{
		"kind: Deployment",
		"kind: Service",
		"kind: PodDisruptionBudget",
		"maxUnavailable: 0",
		"startupProbe:",
		"readinessProbe:",
		"livenessProbe:",
		"runAsNonRoot: true",
		"readOnlyRootFilesystem: true",
		"allowPrivilegeEscalation: false",
		"enableServiceLinks: false",
		"automountServiceAccountToken: false",
		"topologySpreadConstraints:",
		"limits:",
		"requests:",
	} {
		if !regexp.MustCompile(`(?m)^[ -]*` + promise).MatchString(render) {
			t.Errorf("the render holds no %q", promise)
		}
	}
	seconds := func(pattern string) int {
		t.Helper()
		found := regexp.MustCompile(pattern).FindStringSubmatch(render)
		if found == nil {
			t.Fatalf("the render holds no %q", pattern)
		}
		n, _ := strconv.Atoi(found[1])
		return n
	}
	grace, drain := seconds(`terminationGracePeriodSeconds: (\d+)`), seconds(`HEALTHD_DRAIN\s+value: (\d+)s`)
	if grace <= drain+10 {
		t.Errorf("grace period %d s, want more than the drain of %d s and the 10 s for what is in flight", grace, drain)
	}
	if t.Failed() {
		t.Log(render)
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
	check := spawn(t, nil, nil, program(t, "haproxy"), "-c", "-f", "../deploy/haproxy.cfg")
	if code := check.wait(t, patience); code != 0 || check.stderr.String() != "" {
		t.Errorf("haproxy -c: exit code %d\n%s", code, check.stderr.String())
	}
}
