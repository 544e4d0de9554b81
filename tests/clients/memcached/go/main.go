// What applications do with gomemcache, against 127.0.0.1:$MEMCACHED_PORT. Ends
// with `N passed, N failed`, exit status 1 where one failed.
package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

func connect() *memcache.Client {
	c := memcache.New("127.0.0.1:" + os.Getenv("MEMCACHED_PORT"))
	c.Timeout = 20 * time.Second
	return c
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func equal[T any](got, expected T) {
	if !reflect.DeepEqual(got, expected) {
		panic(fmt.Sprintf("got %.300q, expected %.300q", fmt.Sprint(got), fmt.Sprint(expected)))
	}
}

func fails(err, expected error) {
	if !errors.Is(err, expected) {
		panic(fmt.Sprintf("error %v instead of %v", err, expected))
	}
}

func item(key, value string) *memcache.Item {
	return &memcache.Item{Key: key, Value: []byte(value)}
}

func value(c *memcache.Client, key string) string {
	found, err := c.Get(key)
	must(err)
	return string(found.Value)
}

func values(c *memcache.Client) {
	must(c.Set(&memcache.Item{Key: "k", Value: []byte("v"), Flags: 7, Expiration: 100}))
	found, err := c.Get("k")
	must(err)
	equal(string(found.Value), "v")
	equal(found.Flags, 7)
	_, err = c.Get("absent")
	fails(err, memcache.ErrCacheMiss)
	fails(c.Add(item("k", "w")), memcache.ErrNotStored)
	must(c.Add(item("new", "w")))
	must(c.Replace(item("k", "w")))
	fails(c.Replace(item("absent", "w")), memcache.ErrNotStored)
	must(c.Append(item("k", "x")))
	must(c.Prepend(item("k", "y")))
	equal(value(c, "k"), "ywx")
	must(c.Delete("k"))
	fails(c.Delete("k"), memcache.ErrCacheMiss)
	must(c.DeleteAll())
	_, err = c.Get("new")
	fails(err, memcache.ErrCacheMiss)
}

func compares(c *memcache.Client) {
	must(c.Set(item("k", "v")))
	first, err := c.Get("k")
	must(err)
	second, err := c.Get("k")
	must(err)
	first.Value = []byte("w")
	must(c.CompareAndSwap(first))
	fails(c.CompareAndSwap(second), memcache.ErrCASConflict)
	must(c.Delete("k"))
	fails(c.CompareAndSwap(second), memcache.ErrCacheMiss)
}

func numbersAndTimes(c *memcache.Client) {
	must(c.Set(item("n", "10")))
	sum, err := c.Increment("n", 5)
	must(err)
	equal(sum, 15)
	rest, err := c.Decrement("n", 20)
	must(err)
	equal(rest, 0)
	_, err = c.Increment("absent", 1)
	fails(err, memcache.ErrCacheMiss)
	must(c.Touch("n", 100))
	fails(c.Touch("absent", 100), memcache.ErrCacheMiss)
	_, err = c.GetAndTouch("n", 200)
	must(err)
	must(c.Set(&memcache.Item{Key: "gone", Value: []byte("v"), Expiration: -1}))
	_, err = c.Get("gone")
	fails(err, memcache.ErrCacheMiss)
}

func many(c *memcache.Client) {
	var group sync.WaitGroup
	keys := make([]string, 300)
	for number := range keys {
		keys[number] = fmt.Sprintf("key-%d", number)
		group.Add(1)
		go func(key string) {
			defer group.Done()
			must(c.Set(item(key, key)))
			equal(value(c, key), key)
		}(keys[number])
	}
	group.Wait()
	found, err := c.GetMulti(append(keys, "absent"))
	must(err)
	equal(len(found), len(keys))
	equal(string(found["key-299"].Value), "key-299")
}

func large(c *memcache.Client) {
	big := make([]byte, 900_000)
	_, _ = rand.Read(big)
	must(c.Set(&memcache.Item{Key: "big", Value: big}))
	found, err := c.Get("big")
	must(err)
	equal(bytes.Equal(found.Value, big), true)
	if c.Set(&memcache.Item{Key: "big", Value: make([]byte, 2<<20)}) == nil {
		panic("a value that is too large was stored")
	}
	must(c.Ping())
}

func main() {
	tests := []struct {
		name string
		run  func(*memcache.Client)
	}{
		{"values", values}, {"compares", compares}, {"numbers and times", numbersAndTimes},
		{"many", many}, {"large", large},
	}
	failed := 0
	for _, test := range tests {
		func() {
			defer func() {
				if reason := recover(); reason != nil {
					failed++
					fmt.Printf("FAIL %s: %v\n", test.name, reason)
				}
			}()
			c := connect()
			must(c.FlushAll())
			test.run(c)
			fmt.Printf("ok   %s\n", test.name)
		}()
	}
	fmt.Printf("%d passed, %d failed\n", len(tests)-failed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
