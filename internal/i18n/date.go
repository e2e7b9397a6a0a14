package i18n

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// dates describes how a language writes dates.
type dates struct {
	weekdays, months []string // from Sunday and from January
	first            string   // the number of the first day of a month, such as 1er
}

func readDates(texts map[string]string) (d dates, err error) {
	d.weekdays = strings.Fields(texts["date.weekdays"])
	d.months = strings.Fields(texts["date.months"])
	d.first = texts["date.first"]
	if len(d.weekdays) != 7 || len(d.months) != 12 || d.first == "" {
		err = errors.New("date.weekdays must have 7 words, date.months 12, " +
			"and date.first must be the first day of a month")
	}
	return d, err
}

// Day returns the date of a time in UTC.
func (w *Words) Day(t time.Time) string { return w.date("date.day", t.UTC()) }

// Moment returns the weekday, date and time of a time in UTC.
func (w *Words) Moment(t time.Time) string { return w.date("date.moment", t.UTC()) }

func (w *Words) date(form string, t time.Time) string {
	day := w.dates.first
	if t.Day() > 1 {
		day = strconv.Itoa(t.Day())
	}
	return w.Text(form,
		"weekday", w.dates.weekdays[t.Weekday()],
		"day", day,
		"month", w.dates.months[t.Month()-1],
		"year", strconv.Itoa(t.Year()),
		"time", t.Format("15:04"))
}
