import assert from 'node:assert/strict'
import test from 'node:test'
import { Election } from '../src/client/election'

/** Windows on one channel, in virtual time. Messages take `delay` ms; a suspended window hears them, and its timers fire, when
 *  it wakes up. */
class World {
    constructor(seed = 1) {
        this.time = 0
        this.seed = seed
        this.todo = []
        this.windows = []
        this.most = 0 // leaders at one time, of those that are awake
    }

    random = () => {
        this.seed = (this.seed * 1103515245 + 12345) % 2147483648
        return this.seed / 2147483648
    }

    at(ms, w, fn) {
        const job = { at: this.time + ms, w, fn, n: this.todo.length }
        this.todo.push(job)
        return job
    }

    open(id = `w${String(Math.floor(this.random() * 1e6)).padStart(6, '0')}-${this.windows.length}`) {
        const w = { id, up: true, asleep: false, leads: false }
        w.election = new Election(id, {
            post: (m) => {
                for (const o of this.windows)
                    if (o !== w) this.at(1 + this.random() * 5, o, () => o.up && o.election.hear(structuredClone(m)))
            },
            lead: () => { w.leads = true },
            follow: () => { w.leads = false },
        }, {
            now: () => Math.floor(this.time),
            set: (fn, ms) => this.at(ms, w, () => w.up && fn()),
            clear: (job) => { if (job) job.fn = () => {} },
        }, this.random)
        this.windows.push(w)
        w.election.start()
        return w
    }

    /** As a page that is closed, or one that crashes and says nothing. */
    end(w, quietly) {
        if (!quietly) w.election.stop()
        w.up = w.leads = false
    }

    run(ms) {
        const until = this.time + ms
        for (;;) {
            const due = this.todo.filter((j) => j.at <= until && !j.w.asleep).sort((a, b) => a.at - b.at)[0]
            if (!due) break
            this.todo.splice(this.todo.indexOf(due), 1)
            this.time = Math.max(this.time, due.at)
            due.fn()
            this.most = Math.max(this.most, this.leaders().length)
        }
        this.time = until
    }

    leaders() {
        return this.windows.filter((w) => w.up && !w.asleep && w.leads)
    }
}

test('eight windows that begin at once have one leader, and never two', () => {
    for (let seed = 1; seed <= 50; seed++) {
        const w = new World(seed)
        for (let i = 0; i < 8; i++) w.open()
        w.run(2000)
        assert.equal(w.leaders().length, 1, `seed ${seed}`)
        assert.equal(w.most, 1, `seed ${seed}`)
    }
})

test('a window alone leads after a moment, and one that comes later follows', () => {
    const w = new World()
    const one = w.open()
    w.run(200)
    assert.deepEqual(w.leaders(), [one])
    w.open('a smaller id')
    w.run(60000)
    assert.deepEqual(w.leaders(), [one])
})

test('the others take over within a moment of the leader leaving, and within half a minute of its crash', () => {
    for (let seed = 1; seed <= 50; seed++) {
        for (const [quietly, within] of [[false, 1000], [true, 30000]]) {
            const w = new World(seed)
            for (let i = 0; i < 4; i++) w.open()
            w.run(5000)
            w.end(w.leaders()[0], quietly)
            w.run(within)
            assert.equal(w.leaders().length, 1, `seed ${seed}, ${quietly ? 'crash' : 'leaving'}`)
        }
    }
})

test('a suspended leader is replaced, and gives way when it wakes up', () => {
    for (let seed = 1; seed <= 50; seed++) {
        const w = new World(seed)
        for (let i = 0; i < 4; i++) w.open()
        w.run(5000)
        const [old] = w.leaders()
        old.asleep = true
        w.run(30000)
        assert.equal(w.leaders().length, 1, `seed ${seed}`)
        old.asleep = false
        w.run(20000)
        assert.equal(w.leaders().length, 1, `seed ${seed}`)
    }
})

test('who is told follow has been told lead', () => {
    const w = new World(7)
    const calls = []
    const e = new Election('m', { post() {}, lead: () => calls.push('lead'), follow: () => calls.push('follow') },
        { now: () => w.time, set: (fn, ms) => w.at(ms, { asleep: false }, fn), clear: (j) => { if (j) j.fn = () => {} } }, w.random)
    e.hear({ k: 'lead', from: 'a', since: 0 })
    e.start()
    e.hear({ k: 'lead', from: 'a', since: 0 })
    assert.deepEqual(calls, [])
    w.run(20000)
    assert.deepEqual(calls, ['lead'])
    e.hear({ k: 'lead', from: 'z', since: w.time + 5 }) // younger: it is told to go, and does
    assert.equal(e.state, 'leader')
    e.hear({ k: 'lead', from: 'z', since: -1 })
    assert.deepEqual(calls, ['lead', 'follow'])
    e.stop()
    w.run(60000)
    assert.equal(e.state, 'idle')
})
