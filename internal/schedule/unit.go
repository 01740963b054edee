package schedule

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// unit is one field of an expression: its name in messages and what may stand in it.
type unit struct {
	name    string
	lo, hi  int
	words   []string // words[i] stands for lo+i
	dialect Dialect
	wraps   bool // a range may run past hi and on from lo (Quartz: 22-2)
}

var (
	monthWords = []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}
	dayWords   = []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}
)

// steps is one entry of a field: from, from+by, and so on to to. When to is less than from, it runs past the end of the field
// and on from its beginning.
type steps struct{ from, to, by int }

// set returns the values that a comma separated list names, as bits.
func (u *unit) set(list string) (uint64, error) {
	var set uint64
	for text := range strings.SplitSeq(list, ",") {
		entry, err := u.entry(text)
		if err != nil {
			return 0, u.fault(list, err)
		}
		set |= u.bits(entry)
	}
	return set, nil
}

func (u *unit) bits(entry steps) uint64 {
	size := u.hi - u.lo + 1
	if entry.to < entry.from {
		entry.to += size
	}
	var set uint64
	for value := entry.from; value <= entry.to; value += entry.by {
		set |= 1 << (u.lo + (value-u.lo)%size)
	}
	return set
}

// fault makes an error out of what is wrong with the field's text.
func (u *unit) fault(text string, reason error) error {
	return &FieldError{u.name, text, reason.Error()}
}

// entry reads *, a value, or a range, each with an optional step. A single value with a step runs to the end of the field.
func (u *unit) entry(text string) (steps, error) {
	if text == "" {
		return steps{}, errors.New("has an empty entry; separate values by single commas, like 1,5")
	}
	body, step, stepped := strings.Cut(text, "/")
	by := 1
	if stepped {
		var err error
		if by, err = u.step(body, step); err != nil {
			return steps{}, err
		}
	}
	if body == "*" || body == "" && u.dialect == Quartz {
		return steps{u.lo, u.hi, by}, nil
	}
	first, last, ranged := strings.Cut(body, "-")
	from, err := u.value(first)
	if err != nil {
		return steps{}, err
	}
	to := from
	switch {
	case ranged:
		if to, err = u.value(last); err != nil {
			return steps{}, err
		}
	case stepped:
		to = u.hi
	}
	if to < from && !u.wraps {
		return steps{}, fmt.Errorf("range %s runs backwards; write it as %s", body, u.unwrapped(from, to))
	}
	return steps{from, to, by}, nil
}

// unwrapped writes a backward range the way a field without wrapping takes it.
func (u *unit) unwrapped(from, to int) string {
	if u.name == unixWeekday.name && to == 0 {
		return fmt.Sprintf("%d-7", from)
	}
	return fmt.Sprintf("%d-%d,%d-%d", from, u.hi, u.lo, to)
}

func (u *unit) step(body, text string) (int, error) {
	if u.dialect == Quartz && strings.ContainsAny(body, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		return 0, fmt.Errorf("%s/%s has a step after a name, which Quartz ignores; write numbers", body, text)
	}
	most := min(u.hi, u.hi-u.lo+1)
	step, err := number(text)
	if err != nil || step < 1 || step > most {
		return 0, fmt.Errorf("%q is not a step; use 1 to %d", text, most)
	}
	return step, nil
}

func (u *unit) value(text string) (int, error) {
	for i, word := range u.words {
		if text == word {
			return u.lo + i, nil
		}
	}
	value, err := number(text)
	switch {
	case err != nil && u.dialect == Unix && strings.ContainsAny(text, "?LW#"):
		return 0, fmt.Errorf("%q is not a value; use %s (? L W # are of the quartz dialect)", text, u.choices())
	case err != nil:
		return 0, fmt.Errorf("%q is not a value; use %s", text, u.choices())
	case value < u.lo || value > u.hi:
		return 0, fmt.Errorf("%s is out of range; use %s", text, u.choices())
	}
	return value, nil
}

func (u *unit) choices() string {
	numbers := fmt.Sprintf("%d to %d", u.lo, u.hi)
	if len(u.words) == 0 {
		return numbers
	}
	return fmt.Sprintf("%s or %s to %s", numbers, u.words[0], u.words[len(u.words)-1])
}

// number reads up to four decimal digits and nothing else.
func number(text string) (int, error) {
	if len(text) > 4 {
		return 0, errors.New("too long")
	}
	value, err := strconv.ParseUint(text, 10, 16)
	return int(value), err
}

// maxExpression is longer than any sensible expression: one that lists every minute and second has under 400 characters.
const maxExpression = 1024

// splitFields cuts an expression into its fields, in upper case. want says in an error how many there may be.
func splitFields(expression string, least, most int, want string) ([]string, error) {
	if len(expression) > maxExpression {
		return nil, &FieldError{"expression", expression[:32] + "...", fmt.Sprintf("is longer than %d characters", maxExpression)}
	}
	for i := range len(expression) {
		// ToUpper would otherwise turn foreign letters into names of days and months.
		if expression[i] >= 0x80 {
			return nil, &FieldError{"expression", expression, "must be plain ASCII"}
		}
	}
	texts := strings.Fields(strings.ToUpper(expression))
	if len(texts) < least || len(texts) > most {
		return nil, &FieldError{"expression", expression, fmt.Sprintf("has %d fields; %s", len(texts), want)}
	}
	return texts, nil
}
