package catalog

import (
	"container/list"
	"sync"
)

// indexBytes bounds the cached indexes. Names are mostly short, but need not be.
const indexBytes = 8 << 20

// indexCache keeps the indexes of the listings that were read last.
type indexCache struct {
	mu     sync.Mutex
	newest *list.List // of cachedIndex
	known  map[*listing]*list.Element
	bytes  int
}

type cachedIndex struct {
	of     *listing
	blocks []block
	bytes  int
}

func newIndexCache() *indexCache {
	return &indexCache{newest: list.New(), known: map[*listing]*list.Element{}}
}

// get returns the index of a listing, which read reads if it is not here.
func (c *indexCache) get(l *listing, read func() ([]block, error)) ([]block, error) {
	c.mu.Lock()
	if element := c.known[l]; element != nil {
		c.newest.MoveToFront(element)
		c.mu.Unlock()
		return element.Value.(cachedIndex).blocks, nil
	}
	c.mu.Unlock()
	blocks, err := read()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known[l] == nil {
		size := 0
		for i := range blocks {
			size += blocks[i].bytes()
		}
		c.known[l] = c.newest.PushFront(cachedIndex{l, blocks, size})
		c.bytes += size
	}
	for c.bytes > indexBytes {
		c.drop(c.newest.Back())
	}
	return blocks, nil
}

// forget drops the index of a listing that is gone.
func (c *indexCache) forget(l *listing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element := c.known[l]; element != nil {
		c.drop(element)
	}
}

func (c *indexCache) drop(element *list.Element) {
	cached := c.newest.Remove(element).(cachedIndex)
	delete(c.known, cached.of)
	c.bytes -= cached.bytes
}
