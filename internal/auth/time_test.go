package auth

import (
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// No test can time a comparison and be reliable. This one reads the code: what
// is secret is compared in constant time, by a statement of its own, in a loop
// that nothing ends early.
func TestNoComparisonEndsEarly(t *testing.T) {
	t.Parallel()
	names, _ := filepath.Glob("*.go")
	compared := map[string]int{} // comparisons by function
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.RangeStmt:
					if f.Name.Name == "parse" || f.Name.Name == "match" || f.Name.Name == "Check" {
						ast.Inspect(n.Body, func(n ast.Node) bool {
							switch n.(type) {
							case *ast.BranchStmt, *ast.ReturnStmt:
								t.Errorf("%s: the loop over secrets in %s ends early", name, f.Name.Name)
							}
							return true
						})
					}
				case *ast.BinaryExpr:
					if (n.Op == token.LAND || n.Op == token.LOR) && comparisons(n.Y) > 0 {
						t.Errorf("%s: %s compares only if what stands before it lets it", name, f.Name.Name)
					}
				case *ast.CallExpr:
					if timed := call(n); timed == "bytes.Equal" || timed == "bytes.Compare" || timed == "strings.Compare" || timed == "slices.Equal" {
						t.Errorf("%s: %s calls %s", name, f.Name.Name, timed)
					}
				}
				return true
			})
			if n := comparisons(f); n > 0 {
				compared[f.Name.Name] = n
			}
		}
	}
	if len(compared) != 3 || compared["parse"] != 1 || compared["verify"] != 1 || compared["match"] != 1 {
		t.Errorf("comparisons in constant time are %v; want one each in parse, verify and match", compared)
	}
}

// comparisons counts those in constant time.
func comparisons(n ast.Node) (count int) {
	ast.Inspect(n, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok && (call(c) == "hmac.Equal" || call(c) == "subtle.ConstantTimeCompare") {
			count++
		}
		return true
	})
	return count
}

// call is the function of another package that c calls.
func call(c *ast.CallExpr) string {
	if s, ok := c.Fun.(*ast.SelectorExpr); ok {
		if x, ok := s.X.(*ast.Ident); ok {
			return x.Name + "." + s.Sel.Name
		}
	}
	return ""
}

// BenchmarkConstantTime times pairs of decisions that a stranger must not tell
// apart, in random order, and gives the median time of each and Welch's t of
// the two samples: beyond 4.5 they differ (a usual threshold; see dudect). The
// row "control" compares with == and must be found out. Give it time and quiet:
// -benchtime 200000x.
func BenchmarkConstantTime(b *testing.B) {
	password := strings.Repeat("s3cret-", 300)
	stored := func(lines ...string) Credentials { return NewCredentials(lines) }
	many := make([]string, 100)
	for i := range many {
		many[i] = "user" + string(rune('0'+i/10)) + string(rune('0'+i%10)) + ":" + password
	}
	all, one := stored(many...), stored("user:"+password)
	good := seal(goodHeader, goodClaims, keys[0])
	dot := strings.LastIndexByte(good, '.')
	const bad = "the-key-that-an-attacker-has-made"
	manyKeys := slices.Repeat([]string{bad}, 99)

	for _, tt := range []struct {
		name string
		a, b func() func()
	}{
		{"control, first byte or last byte wrong", equal(password, "S"+password[1:]), equal(password, password[:len(password)-1]+"S")},
		{"password, first byte or last byte wrong", ask(one, "user", "S"+password[1:]), ask(one, "user", password[:len(password)-1]+"S")},
		{"user, wrong or right beside a wrong password", ask(one, "resu", "wrong"), ask(one, "user", "wrong")},
		{"password, stored short or long", ask(stored("user:x"), "user", "wrong"), ask(one, "user", "wrong")},
		{"password, right in the first or the last of 100 lines", ask(all, "user00", password), ask(all, "user99", password)},
		{"password, wrong for the first or the last of 100 lines", ask(all, "user00", "wrong"), ask(all, "user99", "wrong")},
		{"password, right or wrong (the answer tells that anyway)", ask(one, "user", password), ask(one, "user", "S"+password[1:])},
		{"signature, first byte or last byte wrong", verify(good[:dot+1]+other(good[dot+1])+good[dot+2:], keys[0]), verify(good[:len(good)-2]+other(good[len(good)-2])+good[len(good)-1:], keys[0])},
		{"signature, wrong for a key of 32 or 64 bytes", verify(good, bad[:32]), verify(good, bad[:32]+bad[:32])},
		{"signature, right by the first or the last of 100 keys", verify(good, append([]string{keys[0]}, manyKeys...)...), verify(good, append(manyKeys[:99:99], keys[0])...)},
	} {
		b.Run(tt.name, func(b *testing.B) {
			var samples [2][]float64
			prepare := [2]func() func(){tt.a, tt.b}
			for b.Loop() {
				class := rand.IntN(2)
				f := prepare[class]()
				start := time.Now()
				f()
				samples[class] = append(samples[class], float64(time.Since(start)))
			}
			if len(samples[0]) < 100 || len(samples[1]) < 100 {
				return
			}
			for i := range samples { // what the scheduler did stands at the end
				slices.Sort(samples[i])
				samples[i] = samples[i][:len(samples[i])*9/10]
			}
			b.ReportMetric(samples[0][len(samples[0])/2], "ns-a")
			b.ReportMetric(samples[1][len(samples[1])/2], "ns-b")
			b.ReportMetric(math.Abs(welch(samples[0], samples[1])), "t")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// Below, what is timed is copied first and its code is not inlined: the two
// must not differ by where in memory they lie.

//go:noinline
func ask(all Credentials, user, password string) func() func() {
	return func() func() {
		all, user, password := slices.Clone(all), strings.Clone(user), strings.Clone(password)
		return func() { all.match(user, password) }
	}
}

//go:noinline
func verify(token string, keys ...string) func() func() {
	return func() func() {
		token, keys := strings.Clone(token), slices.Clone(keys)
		return func() { Verify(token, keys, now) }
	}
}

//go:noinline
func equal(a, b string) func() func() {
	same := false
	return func() func() {
		a, b := strings.Clone(a), strings.Clone(b)
		return func() { same = same || a == b }
	}
}

// other is some other letter of base64.
func other(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}

func welch(a, b []float64) float64 {
	meanA, varA := moments(a)
	meanB, varB := moments(b)
	return (meanA - meanB) / math.Sqrt(varA/float64(len(a))+varB/float64(len(b)))
}

func moments(sample []float64) (mean, variance float64) {
	for _, x := range sample {
		mean += x / float64(len(sample))
	}
	for _, x := range sample {
		variance += (x - mean) * (x - mean) / float64(len(sample)-1)
	}
	return mean, variance
}
