package figures

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Measures of the plot, in its own units.
const (
	plotWidth   = 960.0
	labelWidth  = 210.0
	barHeight   = 16.0
	caseGap     = 18.0
	plotTop     = 54.0
	valueMargin = 90.0
)

var colors = map[string]string{
	Sequencer: "#9aa0a6", Orkestra: "#1a73e8", Pods: "#8ab4f8", Helmfile: "#f29900", FluxShort: "#81c995", Flux: "#188038",
}

// SVG is a plot of the wall times of installs: a bar for each contender on each case,
// on a logarithmic scale, as they are decades apart.
func (r Report) SVG() string {
	low, high := math.Inf(1), math.Inf(-1)
	bars := &strings.Builder{}
	y := plotTop
	for _, c := range r.cases() {
		for _, contender := range r.contenders() {
			if took := r.median(c, contender, Install, wall); took > 0 {
				low, high = min(low, took), max(high, took)
			}
		}
	}
	x := scale(low, high)
	for _, c := range r.cases() {
		fmt.Fprintf(bars, `<text x="8" y="%.0f" font-weight="bold">%s</text>`+"\n", y+barHeight-4, html.EscapeString(c))
		for _, contender := range r.contenders() {
			took := r.median(c, contender, Install, wall)
			if !(took > 0) {
				continue
			}
			fmt.Fprintf(bars, `<text x="%.0f" y="%.0f" text-anchor="end">%s</text>`+"\n", labelWidth-8, y+barHeight-4, contender)
			fmt.Fprintf(bars, `<rect class="bar" x="%.0f" y="%.0f" width="%.1f" height="%.0f" fill="%s"/>`+"\n",
				labelWidth, y, x(took)-labelWidth, barHeight-2, colors[contender])
			fmt.Fprintf(bars, `<text x="%.1f" y="%.0f">%s</text>`+"\n", x(took)+6, y+barHeight-4, seconds(took))
			y += barHeight
		}
		y += caseGap
	}
	out := &strings.Builder{}
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="12">`+"\n", plotWidth, y)
	fmt.Fprintf(out, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	fmt.Fprintf(out, `<text x="8" y="22" font-size="16">From apply to all releases ready, seconds (logarithmic)</text>`+"\n")
	if low <= high {
		for decade := math.Floor(math.Log10(low)); decade <= math.Log10(high); decade++ {
			at := math.Pow(10, decade)
			if at < low {
				continue
			}
			fmt.Fprintf(out, `<line x1="%.1f" y1="34" x2="%.1f" y2="%.0f" stroke="#dadce0"/><text x="%.1f" y="46">%g</text>`+"\n",
				x(at), x(at), y, x(at)+3, at)
		}
	}
	out.WriteString(bars.String())
	out.WriteString("</svg>\n")
	return out.String()
}

// scale places a value; the lowest bar is still one that is seen.
func scale(low, high float64) func(float64) float64 {
	from := math.Log10(low) - 0.3
	to := math.Log10(high)
	return func(v float64) float64 {
		return labelWidth + (plotWidth-labelWidth-valueMargin)*(math.Log10(v)-from)/(to-from)
	}
}
