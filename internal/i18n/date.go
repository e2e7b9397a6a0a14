package i18n

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// dates is how a language writes them.
type dates struct {
	weekdays, months []string // from Sunday and from January
	first            string   // the first of a month
}

func readDates(texts map[string]string) (d dates, err error) {
	d.weekdays, d.months, d.first = strings.Fields(texts["date.weekdays"]), strings.Fields(texts["date.months"]), texts["date.first"]
	if len(d.weekdays) != 7 || len(d.months) != 12 || d.first == "" {
		err = errors.New("date.weekdays are 7 words, date.months are 12, and date.first is how the first of a month is written")
	}
	return d, err
}

// Day is the date of a moment, in UTC.
func (w *Words) Day(t time.Time) string { return w.date("date.day", t.UTC()) }

// Moment is the date of a moment with the day of the week and the time, in UTC.
func (w *Words) Moment(t time.Time) string { return w.date("date.moment", t.UTC()) }

func (w *Words) date(form string, t time.Time) string {
	day := w.dates.first
	if t.Day() > 1 {
		day = strconv.Itoa(t.Day())
	}
	return w.Text(form, "weekday", w.dates.weekdays[t.Weekday()], "day", day, "month", w.dates.months[t.Month()-1],
		"year", strconv.Itoa(t.Year()), "time", t.Format("15:04"))
}
