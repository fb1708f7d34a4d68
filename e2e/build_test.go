//go:build e2e

package e2e

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// goCommand runs go in the project's folder and returns its stdout.
func goCommand(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = ".."
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %q: %v\n%s%s", args, err, out, stderr.String())
	}
	return string(out)
}

// Heroku's buildpacks start the only main package that there is, by its name.
// They refuse a module whose path has no slash.
func TestABuildpackFindsTheOneProgram(t *testing.T) {
	var module struct {
		Module  struct{ Path string }
		Require []any
	}
	if err := json.Unmarshal([]byte(goCommand(t, "mod", "edit", "-json")), &module); err != nil {
		t.Fatal(err)
	}
	path := module.Module.Path
	if !strings.HasSuffix(path, "/healthd") {
		t.Errorf("the module is %s; want a path with a slash that ends in healthd, the program's name", path)
	}
	if len(module.Require) != 0 {
		t.Errorf("go.mod requires %v", module.Require)
	}
	programs := strings.Fields(goCommand(t, "list", "-f", `{{if eq .Name "main"}}{{.ImportPath}}{{end}}`, "./..."))
	if !slices.Equal(programs, []string{path}) {
		t.Errorf("the main packages are %v, want %s alone", programs, path)
	}
}
