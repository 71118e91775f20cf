import assert from 'node:assert/strict'
import test from 'node:test'
import { SseParser } from '../src/client/sse'

const STREAM = '\uFEFF: hello\n\nid: 41\nevent: state\ndata: {"a":1}\n\n: comment\r\ndata:two\r\ndata: lines\r\n\r\nid: 42\rdata: cr\r\rdata\n\nevent: none\n\nid: 9\n'
const FRAMES = [
    { id: '41', event: 'state', data: '{"a":1}' },
    { id: null, event: 'message', data: 'two\nlines' },
    { id: '42', event: 'message', data: 'cr' },
    { id: null, event: 'message', data: '' },
]

test('a stream is read the same whatever the pieces it comes in', () => {
    for (let size = 1; size <= STREAM.length; size++) {
        const p = new SseParser()
        const got = []
        for (let i = 0; i < STREAM.length; i += size) got.push(...p.push(STREAM.slice(i, i + size)))
        assert.deepEqual(got, FRAMES, `pieces of ${size}`)
    }
})

test('a long piece takes no longer than its length', () => {
    const p = new SseParser()
    assert.equal(p.push('data: x\n\n'.repeat(200000)).length, 200000)
})
