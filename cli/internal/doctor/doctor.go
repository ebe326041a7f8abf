// Package doctor says what is wrong with an installation: facts in, findings out.
package doctor

import (
	"cmp"
	"fmt"
	"slices"
)

// Level of a finding, and of a check: its worst finding's.
type Level string

// The levels, the worst first.
const (
	// Problem: something does not work, or will not when it is needed.
	Problem Level = "problem"
	// Unknown: it could not be looked at.
	Unknown Level = "unknown"
	// Warning: it works, and somebody should know of it.
	Warning Level = "warning"
	// OK: nothing was found.
	OK Level = "ok"
)

var ranks = map[Level]int{Problem: 0, Unknown: 1, Warning: 2, OK: 3}

// Finding is one thing that is not as it should be.
type Finding struct {
	Level Level  `json:"level"`
	Check string `json:"check"`
	// Name of the kind of finding, for programs: "consumer-missing".
	Name string `json:"name"`
	What string `json:"what"`
	Why  string `json:"why"`
	// Do is what mends it.
	Do string `json:"do"`
}

// Result of a check.
type Result struct {
	Check string `json:"check"`
	Level Level  `json:"result"`
	// Detail is what was seen, in a few words.
	Detail string `json:"detail"`
}

// Report on an installation.
type Report struct {
	Checks []Result `json:"checks"`
	// Findings, the worst first, and those of one level in the order of the checks.
	Findings []Finding `json:"findings"`
}

// Worst level of all findings.
func (r Report) Worst() Level {
	worst := OK
	for _, f := range r.Findings {
		worst = worse(worst, f.Level)
	}
	return worst
}

func worse(a, b Level) Level {
	if ranks[b] < ranks[a] {
		return b
	}
	return a
}

// checks, in the order in which what is wrong with one explains what is wrong with the next.
var checks = []struct {
	name    string
	examine func(*visit)
}{
	{"cluster", server},
	{"crds", crds},
	{"services", services},
	{"bus", bus},
	{"consumers", consumers},
	{"letters", letters},
	{"permissions", permissions},
	{"admission", admission},
	{"policies", policies},
	{"argo", argo},
	{"flux", flux},
	{"registries", registries},
	{"groups", groups},
	{"receivers", receivers},
	{"leftovers", leftovers},
}

// Examine the facts.
func Examine(f Facts) Report {
	r := Report{Findings: []Finding{}}
	for _, check := range checks {
		v := &visit{Facts: f, check: check.name}
		check.examine(v)
		level := OK
		for _, found := range v.findings {
			level = worse(level, found.Level)
		}
		r.Checks = append(r.Checks, Result{Check: check.name, Level: level, Detail: v.detail})
		r.Findings = append(r.Findings, v.findings...)
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(ranks[a.Level], ranks[b.Level]) })
	return r
}

// visit is one check's look at the facts.
type visit struct {
	Facts
	check    string
	detail   string
	findings []Finding
}

func (v *visit) find(level Level, name, what, why, do string) {
	v.findings = append(v.findings, Finding{Level: level, Check: v.check, Name: name, What: what, Why: why, Do: do})
}

// unseen says that something could not be looked at.
func (v *visit) unseen(what string, err error) {
	v.find(Unknown, "not-seen", fmt.Sprintf("%s could not be looked at: %v", what, err), "What is wrong there is not known.",
		"run it as somebody who may read it, with --timeout raised where the time was short")
}

func (v *visit) say(format string, args ...any) { v.detail = fmt.Sprintf(format, args...) }
