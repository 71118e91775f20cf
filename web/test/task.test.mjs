import assert from 'node:assert/strict'
import test from 'node:test'
import { entriesOf, fromText, prune, take, toText } from '../src/client/task'

const JOB = '0198c000-0000-7000-8000-000000000001'

const fresh = (id = JOB) => ({
    task: { promptId: id, executionServer: null, serverName: null, windowId: 'w', clientId: 'c', registeredAt: 1, state: 'queued', attempt: 0 },
    at: 0, outputs: [], ended: false,
})
const state = (at, name, attempt, server = null) =>
    ({ id: String(at), event: /succeeded|failed|canceled|expired/.test(name) ? 'end' : 'state', data: { job: JOB, at, state: name, attempt, server } })
const output = (n, at = 9) => ({ id: `o${n}`, event: 'output', data: { job: JOB, at, n, filename: `f${n}` } })
const progress = { id: null, event: 'progress', data: { job: JOB, at: 1, value: 1, max: 2, node: '3' } }

const LIFE = [
    state(10, 'queued', 0), state(11, 'dispatching', 1, 'a'), state(12, 'running', 1, 'a'), state(20, 'queued', 1),
    state(20, 'dispatching', 2, 'b'), state(21, 'running', 2, 'b'), state(30, 'collecting', 2, 'b'), output(0, 31), output(1, 31),
    state(31, 'succeeded', 2, 'b'),
]

test('a life is told once, in order', () => {
    const k = fresh()
    for (const e of LIFE) assert.equal(take(k, e), true, JSON.stringify(e))
    for (const e of [...LIFE, progress]) assert.equal(take(k, e), false, JSON.stringify(e))
    assert.equal(k.task.state, 'succeeded')
    assert.equal(k.task.serverName, 'b')
    assert.deepEqual(k.outputs.map((o) => [o.n, o.job, o.at]), [[0, undefined, undefined], [1, undefined, undefined]])
})

test('what is older than what is known is not told, whichever way it comes', () => {
    const states = LIFE.filter((e) => e.event !== 'output')
    for (let i = 0; i < states.length; i++) {
        const k = fresh()
        take(k, states[i])
        const before = structuredClone(k)
        for (const e of states.slice(0, i + 1)) assert.equal(take(k, e), false)
        assert.deepEqual(k, before)
    }
})

test('an end is always told, also after a clock that went back', () => {
    const k = fresh()
    take(k, state(1000, 'running', 1, 'a'))
    assert.equal(take(k, state(500, 'failed', 1, 'a')), true)
    assert.equal(k.ended, true)
})

test('outputs of an attempt that was given up are forgotten', () => {
    const k = fresh()
    take(k, state(11, 'dispatching', 1, 'a'))
    take(k, output(0, 12))
    take(k, state(13, 'dispatching', 2, 'b'))
    assert.deepEqual(k.outputs, [])
    assert.equal(take(k, output(0, 14)), true)
})

const RECORD = {
    id: JOB, state: 'succeeded', attempt: 2, server: { name: 'b', url: 'http://b' }, created_at: 10, finished_at: 31, error: null,
    attempts: [{ server: 'a', error: { code: 'server_lost', message: 'm' } }, { server: 'b', error: null }],
    outputs: [{ n: 0, filename: 'f0' }, { n: 1, filename: 'f1' }],
    timeline: LIFE.filter((e) => e.event !== 'output').map((e) => ({ at: e.data.at, state: e.data.state, note: null })),
}
const plain = ({ event, data: { error, ...data } }) => ({ event, ...data })

test('a record says what has not been heard, and nothing else', () => {
    for (let heard = 0; heard <= LIFE.length; heard++) {
        const k = fresh()
        for (const e of LIFE.slice(0, heard)) take(k, e)
        assert.deepEqual(entriesOf(RECORD).filter((e) => take(k, e)).map(plain), LIFE.slice(heard).map(plain), `${heard} heard`)
        assert.equal(k.ended, true)
    }
    assert.deepEqual(entriesOf(RECORD)[3].data.error, { code: 'server_lost', message: 'm' })
})

test('the record of a job under way, and then the stream', () => {
    for (let i = 1; i < 7; i++) {
        const { state: s, attempt, server } = LIFE[i - 1].data
        const record = { ...RECORD, state: s, attempt, server: server && { name: server, url: null }, timeline: RECORD.timeline.slice(0, i), outputs: [{ n: 0 }] }
        const k = fresh()
        const told = [...entriesOf(record), ...entriesOf(record), ...LIFE].filter((e) => take(k, e))
        assert.deepEqual(told.map(plain), LIFE.map(plain), `after ${i}`)
    }
    assert.deepEqual(entriesOf({}), [])
    assert.deepEqual(entriesOf({ state: 'failed', error: { code: 'x', message: 'y', detail: 1 } })[0].data.error, { code: 'x', message: 'y' })
})

test('tasks outlast a reload; what is no task is left out', () => {
    const tasks = new Map()
    for (const id of ['a', 'b']) tasks.set(id, fresh(id))
    take(tasks.get('a'), state(1, 'failed', 1, 's'))
    const back = fromText(toText(tasks))
    assert.deepEqual([...back.keys()], ['a', 'b'])
    assert.equal(back.get('a').ended, true)
    assert.equal(back.get('b').ended, false)
    for (const text of [null, '', '{', '{}', '7', '[1, null, {"task": 1}, {"task": {"promptId": "x"}, "outputs": []}]']) assert.equal(fromText(text).size, 0)
})

test('the oldest that have ended are forgotten first', () => {
    const tasks = new Map()
    for (let i = 0; i < 10; i++) {
        tasks.set(`t${i}`, fresh(`t${i}`))
        if (i % 2) tasks.get(`t${i}`).ended = true
    }
    assert.deepEqual(prune(tasks, 7), ['t1', 't3', 't5'])
    assert.deepEqual([...tasks.keys()], ['t0', 't2', 't4', 't6', 't7', 't8', 't9'])
    assert.deepEqual(prune(tasks, 2), ['t7', 't9', 't0', 't2', 't4'])
    assert.deepEqual(prune(tasks, 2), [])
    assert.deepEqual([...tasks.keys()], ['t6', 't8'])
})
