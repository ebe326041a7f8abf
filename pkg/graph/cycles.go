package graph

import "slices"

// cycles gives one cycle for each node that depends on itself, and one for each
// set of nodes that all wait for each other (a strongly connected component): the
// shortest through the first of them. A cycle begins and ends with the same node,
// and they are sorted by it.
//
// A group may have 10,000 nodes in one chain, so nothing here recurses.
func cycles(edges [][]int) [][]int {
	var out [][]int
	for i, list := range edges {
		if _, ok := slices.BinarySearch(list, i); ok {
			out = append(out, []int{i, i})
		}
	}
	component := components(edges)
	first := map[int]int{} // component -> its first node
	size := map[int]int{}
	for i, c := range component {
		if _, ok := first[c]; !ok {
			first[c] = i
		}
		size[c]++
	}
	for c, i := range first {
		if size[c] > 1 {
			out = append(out, shortestCycle(edges, component, i))
		}
	}
	slices.SortFunc(out, slices.Compare)
	return out
}

// shortestCycle walks from start along the edges inside its component, breadth
// first, until it is back. There is a way back, and one that is longer than one
// step, because the component is strongly connected and has other nodes.
func shortestCycle(edges [][]int, component []int, start int) []int {
	from := map[int]int{}
	for queue := []int{start}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		for _, to := range edges[at] {
			if to == at || component[to] != component[start] {
				continue
			}
			if to == start {
				path := []int{start}
				for ; at != start; at = from[at] {
					path = append(path, at)
				}
				path = append(path, start)
				slices.Reverse(path)
				return path
			}
			if _, seen := from[to]; !seen {
				from[to] = at
				queue = append(queue, to)
			}
		}
	}
	return nil
}

// components numbers the strongly connected components and gives each node the
// number of its own (Tarjan's algorithm, with a stack of its own).
func components(edges [][]int) []int {
	const unseen = -1
	n := len(edges)
	var (
		component = slices.Repeat([]int{unseen}, n)
		order     = slices.Repeat([]int{unseen}, n) // when the node was first seen
		low       = make([]int, n)                  // the earliest open node within reach
		open      []int                             // seen, and in no component yet
		clock     int
		number    int
	)
	type visit struct{ node, next int } // next is the edge to look at
	for root := range n {
		if order[root] != unseen {
			continue
		}
		stack := []visit{{node: root}}
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			v := top.node
			if top.next == 0 {
				order[v], low[v] = clock, clock
				clock++
				open = append(open, v)
			}
			if top.next < len(edges[v]) {
				to := edges[v][top.next]
				top.next++
				switch {
				case order[to] == unseen:
					stack = append(stack, visit{node: to})
				case component[to] == unseen:
					low[v] = min(low[v], order[to])
				}
				continue
			}
			stack = stack[:len(stack)-1]
			if len(stack) > 0 {
				parent := stack[len(stack)-1].node
				low[parent] = min(low[parent], low[v])
			}
			if low[v] != order[v] {
				continue
			}
			for {
				last := open[len(open)-1]
				open = open[:len(open)-1]
				component[last] = number
				if last == v {
					break
				}
			}
			number++
		}
	}
	return component
}
