//go:build linux

package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// The table: medians, the quartiles between which half of the rounds lie, and
// the ratio to the bare server, taken in each round and not of the medians.

// samples are values by server and figure, one a round, in the order of rounds.
type samples map[[2]string][]float64

func (s samples) add(server, figure string, value float64) {
	key := [2]string{server, figure}
	s[key] = append(s[key], value)
}

// row is a line of the table: the figure of a server beside that of bare, or,
// if it is a difference, what the figure is above that of healthd with nothing set.
type row struct {
	label      string
	server     string
	figure     string
	difference bool
	verb       string  // how to print a value
	goal       float64 // the most the ratio or the difference is to be; 0 is none
}

var rows = []row{
	{label: "CPU, µs of the server per probe"},
	{label: "fresh connection, 500/s", figure: "paced", goal: 0.85},
	{label: "fresh, one after another", figure: "alone", goal: 0.85},
	{label: "fresh connection, flat out", figure: "fresh", goal: 0.85},
	{label: "kept alive, flat out", figure: "kept", goal: 1.00},
	{label: "the same flat out, with"},
	{label: "-auth basic, fresh", server: basic, figure: "fresh"},
	{label: "  above no lock", server: basic, figure: "fresh", difference: true, goal: 3},
	{label: "-auth aksk, fresh", server: aksk, figure: "fresh"},
	{label: "  above no lock", server: aksk, figure: "fresh", difference: true, goal: 3},
	{label: "-auth jwt, fresh", server: jwt, figure: "fresh"},
	{label: "  above no lock", server: jwt, figure: "fresh", difference: true, goal: 3},
	{label: "-verbose, fresh", server: verbose, figure: "fresh"},
	{label: "three targets, fresh", server: targets, figure: "fresh"},
	{label: "TLS, fresh (bare: plain)", server: overTLS, figure: "fresh"},
	{label: "TLS, kept alive (bare: plain)", server: overTLS, figure: "kept"},
	{label: "the answer, µs"},
	{label: "p50, fresh, 500/s", figure: "paced p50"},
	{label: "p99, fresh, 500/s", figure: "paced p99"},
	{label: "p50, fresh, flat out", figure: "fresh p50"},
	{label: "p99, fresh, flat out", figure: "fresh p99"},
	{label: "p50, kept alive, flat out", figure: "kept p50"},
	{label: "p99, kept alive, flat out", figure: "kept p99"},
	{label: "with a tenth of a core"},
	{label: "p50, fresh, 500/s, µs", figure: "limited p50"},
	{label: "p99, fresh, 500/s, µs", figure: "limited p99"},
	{label: "start to first 200, ms", figure: "limited start"},
	{label: "start and memory"},
	{label: "start to first 200, ms", figure: "start", verb: "%.2f", goal: 1.15},
	{label: "resident idle, MiB", figure: "idle", verb: "%.2f"},
	{label: "resident after load, MiB", figure: "after", verb: "%.2f", goal: 0.90},
	{label: "5,000 idle connections: kept", figure: "crowd kept", verb: "%.0f"},
	{label: "  resident, MiB", figure: "crowd"},
	{label: "  of that for each kept, KiB", figure: "crowd each"},
	{label: "binary, MiB", figure: "size", verb: "%.2f", goal: 1.15},
}

const layout = "%-32s %9s  %-17s %9s  %-17s %6s  %-13s %s\n"

// print writes the table. A figure that was not measured has no row.
func (s samples) print(out io.Writer) {
	fmt.Fprintf(out, layout, "", "healthd", "quartiles", "bare", "quartiles", "ratio", "quartiles", "goal")
	for _, r := range rows {
		verb := cmp.Or(r.verb, "%.1f")
		mine, other := s[[2]string{cmp.Or(r.server, plain), r.figure}], s[[2]string{bare, r.figure}]
		switch {
		case r.figure == "":
			fmt.Fprintln(out, r.label)
		case r.difference:
			above := pairs(mine, s[[2]string{plain, r.figure}], func(a, b float64) float64 { return a - b })
			s.line(out, r, []string{middle(verb, above), quartiles(verb, above), "", "", "", ""}, median(above))
		case mine != nil && other != nil:
			ratio := pairs(mine, other, func(a, b float64) float64 { return a / b })
			s.line(out, r, []string{middle(verb, mine), quartiles(verb, mine), middle(verb, other), quartiles(verb, other),
				middle("%.2f", ratio), quartiles("%.2f", ratio)}, median(ratio))
		}
	}
	if allocations := s[[2]string{plain, "allocations"}]; allocations != nil {
		r := row{label: "allocations of the handler"}
		s.line(out, r, []string{middle("%.0f", allocations), "", "", "", "", ""}, 0)
	}
}

func (s samples) line(out io.Writer, r row, cells []string, against float64) {
	args := []any{"  " + r.label}
	for _, cell := range cells {
		args = append(args, cell)
	}
	goal := ""
	if r.goal != 0 {
		goal = fmt.Sprintf("≤ %.2f: ", r.goal)
		if r.difference {
			goal = fmt.Sprintf("≤ %.0f µs: ", r.goal)
		}
		if against <= r.goal {
			goal += "met"
		} else {
			goal += "missed"
		}
	}
	fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf(strings.TrimSuffix(layout, "\n"), append(args, goal)...), " "))
}

// pairs combines the values of the same rounds.
func pairs(a, b []float64, combine func(a, b float64) float64) (all []float64) {
	for i := range min(len(a), len(b)) {
		all = append(all, combine(a[i], b[i]))
	}
	return all
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// quantile interpolates between the two values that it falls between.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

func middle(verb string, values []float64) string { return fmt.Sprintf(verb, median(values)) }

func quartiles(verb string, values []float64) string {
	if len(values) < 2 {
		return ""
	}
	return fmt.Sprintf(verb+"–"+verb, quantile(values, 0.25), quantile(values, 0.75))
}
