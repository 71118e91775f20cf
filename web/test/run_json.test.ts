// What is read and written again is the same, byte for byte where it matters.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { member, parse, parseOrThrow, stringify, withMember, type ObjectTree } from '../src/page/json_text'

test('numbers, their order and keys that stand twice are kept', () => {
    const text = '{"b": 18446744073709551615, "a": [5.0, -0, 1E3, 0.10], "10": null, "2": true, "b": 1}'
    assert.equal(stringify(parse(text)!), text)
})

test('text of all kinds is kept', () => {
    for (const s of ['"\\ud800"', '"\\u0000"', '"ü 漢 \u2028"', '"a\\nb\\t\\"\\\\"']) {
        const t = parse(s)
        assert.equal(t?.type === 'string' && t.value, JSON.parse(s))
        assert.equal(JSON.parse(stringify(t!)), JSON.parse(s))
    }
})

test('a picture that stands in it as text is no trouble, whole or cut off', () => {
    const long = 'x'.repeat(20_000_000)
    assert.equal((parse(`{"a": "${long}"}`) as ObjectTree).members[0]![1].type, 'string')
    assert.equal(parse(`{"a": "${long}`), null)
    assert.equal(parse(`"${'\\n'.repeat(1_000_000)}`), null)
})

test('what is no JSON is refused, and where is said', () => {
    for (const bad of ['', '{', '[1,]', '{"a" 1}', '01', '1 2', '{"a": NaN}', "{'a': 1}", '"a\nb"', '[1', '"\\x"']) assert.equal(parse(bad), null, bad)
    assert.throws(() => parseOrThrow('{\n"a": 1,\n"b": x}'), /Line 3/)
    assert.equal(parse('['.repeat(100000)), null)
})

test('a value is exchanged where it stands', () => {
    const t = parse('{"a": 1, "b": 2, "a": 3}') as ObjectTree
    assert.equal(stringify(member(t, 'a')!), '3')
    assert.equal(stringify(withMember(t, 'a', { type: 'number', text: '9' })), '{"a": 1, "b": 2, "a": 9}')
    assert.equal(stringify(withMember(t, 'c', { type: 'number', text: '9' })), '{"a": 1, "b": 2, "a": 3, "c": 9}')
})
