package main

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
	"time"
)

// Drawn is a panel with what its queries answered between Begin and End.
type Drawn struct {
	Panel
	Begin, End time.Time
	Lines      []Line
}

// Line is one series.
type Line struct {
	Name   string
	Points []Point
}

// Point of a line.
type Point struct {
	At    time.Time
	Value float64
}

// peak is its highest value; those that are no number do not count.
func (l Line) peak() float64 {
	peak := 0.0
	for _, p := range l.Points {
		if !math.IsNaN(p.Value) && !math.IsInf(p.Value, 0) {
			peak = max(peak, p.Value)
		}
	}
	return peak
}

const (
	columnWidth, rowHeight = 42, 32 // of a unit of the grid
	head, left, right      = 26, 62, 24
	legendLine, legendMax  = 15, 5 // pixels, and lines that are named
	ticks                  = 4
)

const mebibyte = 1 << 20

var colours = []string{"#3274d9", "#e0752d", "#299c46", "#b877d9", "#c4162a", "#1aa3a3", "#8f6b00", "#6c7a89"}

// Draw is an SVG of the panels.
func Draw(panels []Drawn) string {
	width, height := 24*columnWidth, 0
	for _, p := range panels {
		height = max(height, (p.GridPos.Y+p.GridPos.H)*rowHeight)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11" fill="#333">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#f4f5f5"/>`+"\n", width, height)
	for _, p := range panels {
		panel(&b, p)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func panel(b *strings.Builder, p Drawn) {
	w, h := p.GridPos.W*columnWidth-8, p.GridPos.H*rowHeight-8
	fmt.Fprintf(b, `<g transform="translate(%d %d)"><rect width="%d" height="%d" rx="3" fill="#fff" stroke="#d8d9da"/>`, p.GridPos.X*columnWidth+4, p.GridPos.Y*rowHeight+4, w, h)
	fmt.Fprintf(b, `<text x="10" y="18" font-weight="bold">%s</text>`, html.EscapeString(p.Title))
	switch {
	case len(p.Lines) == 0:
		fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle" fill="#888">no data</text>`, w/2, h/2)
	case p.Type == "stat":
		last := p.Lines[0].Points[len(p.Lines[0].Points)-1].Value
		fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle" font-size="40" fill="%s">%s</text>`, w/2, h/2+18, colours[2], format(last, p.FieldConfig.Defaults.Unit))
	default:
		plot(b, p, w, h)
	}
	b.WriteString("</g>\n")
}

func plot(b *strings.Builder, p Drawn, w, h int) {
	named := min(len(p.Lines), legendMax)
	bottom := h - 22 - (named+1)/2*legendLine
	top := nice(p.Lines[0].peak()) // they are sorted by it
	if p.FieldConfig.Defaults.Unit == "bytes" {
		top = mebibyte * nice(p.Lines[0].peak()/mebibyte)
	}
	for i := range ticks + 1 {
		y := bottom - (bottom-head)*i/ticks
		fmt.Fprintf(b, `<path d="M%d %dH%d" stroke="#e7e8e9"/><text x="%d" y="%d" text-anchor="end" fill="#777">%s</text>`,
			left, y, w-right, left-5, y+4, format(top*float64(i)/ticks, p.FieldConfig.Defaults.Unit))
	}
	for i := range ticks + 1 {
		at := p.End.Sub(p.Begin) * time.Duration(i) / ticks
		fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle" fill="#777">%s</text>`, left+(w-right-left)*i/ticks, bottom+14, at.Round(time.Second))
	}
	for i := len(p.Lines) - 1; i >= 0; i-- {
		line := p.Lines[i]
		fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="1.5"/>`, path(p, line, top, w, bottom), colours[i%len(colours)])
		if i >= legendMax {
			continue
		}
		x, y, name := left+(i%2)*(w-left)/2, bottom+30+i/2*legendLine, line.Name
		if i == legendMax-1 && len(p.Lines) > legendMax {
			name = fmt.Sprintf("%s, and %d more", name, len(p.Lines)-legendMax)
		}
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="9" height="3" fill="%s"/><text x="%d" y="%d">%s</text>`, x, y-5, colours[i%len(colours)], x+13, y, html.EscapeString(name))
	}
}

// path of a line; where there is no point for long, or no number, it is interrupted.
func path(p Drawn, line Line, top float64, w, bottom int) string {
	var b strings.Builder
	gap := 3 * p.End.Sub(p.Begin) / points
	pen, last := "M", time.Time{}
	for _, at := range line.Points {
		if math.IsNaN(at.Value) || math.IsInf(at.Value, 0) {
			pen = "M"
			continue
		}
		if !last.IsZero() && at.At.Sub(last) > gap {
			pen = "M"
		}
		x := float64(left) + float64(w-right-left)*float64(at.At.Sub(p.Begin))/float64(p.End.Sub(p.Begin))
		y := float64(bottom) - float64(bottom-head)*at.Value/top
		fmt.Fprintf(&b, "%s%.0f %.1f", pen, x, y)
		pen, last = "L", at.At
	}
	return b.String()
}

// nice is a round number that is not less, and never 0.
func nice(v float64) float64 {
	if v <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 4, 5, 8} {
		if v <= m*unit {
			return m * unit
		}
	}
	return 10 * unit
}

// format writes a value in its unit.
func format(v float64, unit string) string {
	number := func(v float64) string { return strconv.FormatFloat(math.Round(v*1000)/1000, 'f', -1, 64) }
	switch unit {
	case "s":
		if v > 0 && v < 1 {
			return number(v*1000) + " ms"
		}
		return number(v) + " s"
	case "ops":
		return number(v) + "/s"
	case "bytes":
		return number(math.Round(v/mebibyte*10)/10) + " MiB"
	default:
		return number(v)
	}
}
