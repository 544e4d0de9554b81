// What applications do with go-redis, against 127.0.0.1:$REDIS_PORT, with
// RESP2 and RESP3. Ends with `N passed, N failed`, exit status 1 where one failed.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const timeout = 20 * time.Second

var ctx = context.Background()

func connect(protocol int, change func(*redis.Options)) *redis.Client {
	options := &redis.Options{
		Addr:        "127.0.0.1:" + os.Getenv("REDIS_PORT"),
		Protocol:    protocol,
		ReadTimeout: timeout,
		// A failed command must show, not be tried again.
		MaxRetries: -1,
	}
	if change != nil {
		change(options)
	}
	return redis.NewClient(options)
}

// must gives the value of a reply, or ends the test.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func equal[T any](got, expected T) {
	if !reflect.DeepEqual(got, expected) {
		panic(fmt.Sprintf("got %.300q, expected %.300q", fmt.Sprint(got), fmt.Sprint(expected)))
	}
}

func fails(err error, text string) {
	if err == nil || !strings.Contains(err.Error(), text) {
		panic(fmt.Sprintf("error %v without %q", err, text))
	}
}

func waitFor(condition func() bool) {
	end := time.Now().Add(timeout)
	for !condition() {
		if time.Now().After(end) {
			panic("waited in vain")
		}
	}
}

type test struct {
	name string
	run  func(c *redis.Client, protocol int)
}

var tests = []test{
	{"values", values},
	{"errors", failures},
	{"pipeline", pipeline},
	{"transactions", transactions},
	{"pool", pool},
	{"publish and subscribe", publishSubscribe},
	{"blocking", blocking},
	{"scripts", scripts},
	{"scan", scan},
	{"streams", streams},
	{"big values", bigValues},
	{"identity and databases", identity},
}

func values(c *redis.Client, _ int) {
	equal(must(c.Set(ctx, "k", "v", 100*time.Second).Result()), "OK")
	equal(must(c.Get(ctx, "k").Result()), "v")
	equal(must(c.TTL(ctx, "k").Result()) > 0, true)
	equal(must(c.SetNX(ctx, "k", "w", 0).Result()), false)
	_, err := c.Get(ctx, "absent").Result()
	equal(errors.Is(err, redis.Nil), true)
	equal(must(c.IncrBy(ctx, "n", 5).Result()), int64(5))
	equal(must(c.IncrByFloat(ctx, "f", 1.5).Result()), 1.5)
	equal(must(c.MGet(ctx, "k", "absent").Result()), []any{"v", nil})
	equal(must(c.HSet(ctx, "h", "x", 1, "y", 2).Result()), int64(2))
	equal(must(c.HGetAll(ctx, "h").Result()), map[string]string{"x": "1", "y": "2"})
	equal(must(c.ZAdd(ctx, "z", redis.Z{Score: 1.5, Member: "a"}).Result()), int64(1))
	equal(must(c.ZRangeWithScores(ctx, "z", 0, -1).Result()), []redis.Z{{Score: 1.5, Member: "a"}})
	equal(must(c.RPush(ctx, "l", 1, 2).Result()), int64(2))
	equal(must(c.LRange(ctx, "l", 0, -1).Result()), []string{"1", "2"})
	equal(must(c.SAdd(ctx, "s", "a").Result()), int64(1))
	equal(must(c.SPop(ctx, "s").Result()), "a")
	equal(must(c.Del(ctx, "k", "absent").Result()), int64(1))
}

func failures(c *redis.Client, _ int) {
	must(c.Set(ctx, "text", "abc", 0).Result())
	fails(c.Incr(ctx, "text").Err(), "not an integer")
	fails(c.LPush(ctx, "text", 1).Err(), "WRONGTYPE")
	fails(c.Do(ctx, "NOSUCH").Err(), "unknown command")
	equal(must(c.Get(ctx, "text").Result()), "abc")
}

func pipeline(c *redis.Client, _ int) {
	replies := must(c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range 5000 {
			p.Set(ctx, fmt.Sprint("p", i), i, 0)
			p.Get(ctx, fmt.Sprint("p", i))
		}
		return nil
	}))
	for i, reply := range replies {
		if get, is := reply.(*redis.StringCmd); is {
			equal(get.Val(), fmt.Sprint(i/2))
		}
	}
}

func transactions(c *redis.Client, _ int) {
	replies := must(c.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, "t", 1, 0)
		p.Incr(ctx, "t")
		return nil
	}))
	equal(replies[1].(*redis.IntCmd).Val(), int64(2))
	disturbed := func(disturb bool) error {
		return c.Watch(ctx, func(tx *redis.Tx) error {
			must(tx.Get(ctx, "t").Result())
			if disturb {
				must(c.Set(ctx, "t", 99, 0).Result())
			}
			_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.Set(ctx, "t", 5, 0)
				return nil
			})
			return err
		}, "t")
	}
	equal(errors.Is(disturbed(true), redis.TxFailedErr), true)
	equal(must(c.Get(ctx, "t").Result()), "99")
	equal(disturbed(false), nil)
	equal(must(c.Get(ctx, "t").Result()), "5")
}

func pool(c *redis.Client, _ int) {
	var group sync.WaitGroup
	problems := make(chan error, 64)
	for worker := range 32 {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := range 100 {
				c.Incr(ctx, "counter")
				text := fmt.Sprint(worker, ":", i)
				if got, err := c.Echo(ctx, text).Result(); got != text {
					problems <- fmt.Errorf("echo of %q gave %q, %v", text, got, err)
					return
				}
			}
		}()
	}
	group.Wait()
	equal(len(problems), 0)
	equal(must(c.Get(ctx, "counter").Result()), "3200")
}

func publishSubscribe(c *redis.Client, _ int) {
	subscriber := c.Subscribe(ctx, "news")
	defer subscriber.Close()
	must(subscriber.Receive(ctx))
	must(0, subscriber.PSubscribe(ctx, "w*"))
	must(subscriber.Receive(ctx))
	for i := range 100 {
		equal(must(c.Publish(ctx, "news", i).Result()), int64(1))
	}
	must(c.Publish(ctx, "weather", "rain").Result())
	for i := range 101 {
		message := must(subscriber.ReceiveMessage(ctx))
		expected := fmt.Sprint(i)
		if i == 100 {
			expected = "rain"
		}
		equal(message.Payload, expected)
	}
	must(0, subscriber.Ping(ctx))
	must(subscriber.Receive(ctx))
	must(0, subscriber.Unsubscribe(ctx, "news"))
	must(subscriber.Receive(ctx))
	equal(must(c.Publish(ctx, "news", "unheard").Result()), int64(0))
}

func blocking(c *redis.Client, _ int) {
	popped := make(chan *redis.StringSliceCmd)
	go func() { popped <- c.BLPop(ctx, 10*time.Second, "q") }()
	waitFor(func() bool {
		return strings.Contains(must(c.Info(ctx, "clients").Result()), "blocked_clients:1")
	})
	must(c.RPush(ctx, "q", "job").Result())
	equal(must((<-popped).Result()), []string{"q", "job"})
	_, err := c.BLPop(ctx, time.Second, "q").Result()
	equal(errors.Is(err, redis.Nil), true)
}

func scripts(c *redis.Client, _ int) {
	script := redis.NewScript("redis.call('SET', KEYS[1], ARGV[1]) return {redis.call('GET', KEYS[1]), 7}")
	for range 2 {
		equal(must(script.Run(ctx, c, []string{"lua"}, "x").Result()), any([]any{"x", int64(7)}))
	}
	fails(c.EvalSha(ctx, strings.Repeat("0", 40), nil).Err(), "NOSCRIPT")
	code := "#!lua name=lib\nredis.register_function('put', function(k, a) return redis.call('SET', k[1], a[1]) end)"
	must(c.FunctionLoadReplace(ctx, code).Result())
	equal(must(c.FCall(ctx, "put", []string{"fn"}, "y").Result()), any("OK"))
}

func scan(c *redis.Client, _ int) {
	must(c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range 1000 {
			p.Set(ctx, fmt.Sprint("scan:", i), 1, 0)
		}
		return nil
	}))
	found := map[string]bool{}
	for iterator := c.Scan(ctx, 0, "scan:*", 50).Iterator(); iterator.Next(ctx); {
		found[iterator.Val()] = true
	}
	equal(len(found), 1000)
}

func streams(c *redis.Client, _ int) {
	add := func(n int) string {
		return must(c.XAdd(ctx, &redis.XAddArgs{Stream: "st", Values: []any{"n", n}}).Result())
	}
	first, second := add(1), add(2)
	must(c.XGroupCreate(ctx, "st", "g", "0").Result())
	read := must(c.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group: "g", Consumer: "me", Streams: []string{"st", ">"}, Block: time.Second,
	}).Result())
	equal([]string{read[0].Messages[0].ID, read[0].Messages[1].ID}, []string{first, second})
	equal(must(c.XAck(ctx, "st", "g", first).Result()), int64(1))
	equal(must(c.XPending(ctx, "st", "g").Result()).Count, int64(1))
}

func bigValues(c *redis.Client, _ int) {
	big := make([]byte, 10<<20)
	must(rand.Read(big))
	must(c.Set(ctx, "large", big, 0).Result())
	equal(bytes.Equal(must(c.Get(ctx, "large").Bytes()), big), true)
	replies := must(c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for range 4 {
			p.Set(ctx, "large", big, 0)
			p.Get(ctx, "large")
		}
		return nil
	}))
	equal(replies[7].(*redis.StringCmd).Val() == string(big), true)
}

func identity(c *redis.Client, protocol int) {
	must(c.Do(ctx, "ACL", "SETUSER", "app", "reset", "on", ">pw", "+@all", "~app:*").Result())
	other := connect(protocol, func(o *redis.Options) {
		o.Username, o.Password, o.DB, o.ClientName = "app", "pw", 3, "worker"
	})
	defer other.Close()
	equal(must(other.Do(ctx, "ACL", "WHOAMI").Text()), "app")
	equal(must(other.ClientGetName(ctx).Result()), "worker")
	must(other.Set(ctx, "app:1", "three", 0).Result())
	fails(other.Set(ctx, "else", "x", 0).Err(), "NOPERM")
	equal(must(c.Exists(ctx, "app:1").Result()), int64(0))
	single := c.Conn()
	defer single.Close()
	must(single.Select(ctx, 3).Result())
	equal(must(single.Get(ctx, "app:1").Result()), "three")
	must(single.ClientSetName(ctx, "mine").Result())
	equal(must(single.ClientGetName(ctx).Result()), "mine")
	wrong := connect(protocol, func(o *redis.Options) { o.Username, o.Password = "app", "no" })
	defer wrong.Close()
	fails(wrong.Ping(ctx).Err(), "WRONGPASS")
	must(single.Select(ctx, 0).Result())
	must(c.Do(ctx, "ACL", "DELUSER", "app").Result())
}

// attempt runs one test on an empty server and tells what went wrong.
func attempt(t test, protocol int) (problem any) {
	c := connect(protocol, func(o *redis.Options) { o.PoolSize = 16 })
	defer c.Close()
	defer func() { problem = recover() }()
	must(c.FlushAll(ctx).Result())
	t.run(c, protocol)
	return nil
}

func main() {
	passed, failed := 0, 0
	for _, protocol := range []int{2, 3} {
		for _, t := range tests {
			if problem := attempt(t, protocol); problem != nil {
				failed++
				fmt.Printf("FAIL go-redis RESP%d %s: %v\n", protocol, t.name, problem)
			} else {
				passed++
				fmt.Printf("ok   go-redis RESP%d %s\n", protocol, t.name)
			}
		}
	}
	fmt.Printf("go-redis %s: %d passed, %d failed\n", redis.Version(), passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
