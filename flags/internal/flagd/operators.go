package flagd

import (
	"maps"
	"slices"
	"strings"
)

// operator compiles the calls of an operator whose arguments are compiled already.
type operator struct {
	least int // fewer arguments make each evaluation fail
	loop  bool
	looks bool // a loop whose body sees the outside as well
	build func(*call) node
}

var operators = map[string]operator{
	"var":          {build: variable},
	"missing":      {build: missing},
	"missing_some": {build: missingSome},

	"if":  {build: choose},
	"and": {build: and},
	"or":  {build: or},
	"!":   {build: not},
	"!!":  {build: yes},

	"==":  {build: dual(equal)},
	"!=":  {build: dual(unequal)},
	"===": {build: dual(same)},
	"!==": {build: dual(different)},
	"<":   {build: ordered(less)},
	"<=":  {build: ordered(atMost)},
	">":   {build: ordered(more)},
	">=":  {build: ordered(atLeast)},
	"in":  {build: within},

	"+":   {build: sum.compile},
	"-":   {build: minus.compile},
	"*":   {build: product.compile},
	"/":   {build: quotient.compile},
	"%":   {build: remainder, least: 2},
	"max": {build: greatest.compile},
	"min": {build: smallest.compile},

	"cat":         {build: cat},
	"substr":      {build: substr, least: 2},
	"starts_with": {build: affix(strings.HasPrefix).compile},
	"ends_with":   {build: affix(strings.HasSuffix).compile},
	"sem_ver":     {build: semVer},

	"map":    {build: transform, least: 2, loop: true},
	"filter": {build: filter, least: 2, loop: true, looks: true},
	"reduce": {build: reduce, least: 3, loop: true},
	"all":    {build: search{false, false, false}.compile, least: 2, loop: true},
	"none":   {build: search{true, false, true}.compile, least: 2, loop: true, looks: true},
	"some":   {build: search{true, true, false}.compile, least: 2, loop: true, looks: true},
	"merge":  {build: merge},

	"fractional": {build: split},
}

// known lists the operators for messages.
func known() string { return strings.Join(slices.Sorted(maps.Keys(operators)), " ") }
