// Package parallel does many independent pieces of work on all processors and hands the results on in their order.
package parallel

import "runtime"

// Each calls work with 0 to n-1, at most GOMAXPROCS of them at a time, and done with each result in the order of the numbers,
// as soon as it is there. done runs in the caller's goroutine.
func Each[T any](n int, work func(i int) T, done func(i int, result T)) {
	workers := min(n, runtime.GOMAXPROCS(0))
	results := make([]chan T, n)
	for i := range results {
		results[i] = make(chan T, 1)
	}
	// ahead bounds how many results wait for their turn behind a slow piece of work.
	ahead := make(chan struct{}, 64*max(workers, 1))
	next := make(chan int)
	for range workers {
		go func() {
			for i := range next {
				results[i] <- work(i)
			}
		}()
	}
	go func() {
		defer close(next)
		for i := range n {
			ahead <- struct{}{}
			next <- i
		}
	}()
	for i := range n {
		done(i, <-results[i])
		<-ahead
	}
}
