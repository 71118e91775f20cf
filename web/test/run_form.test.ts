// The form of a workflow, its values, its seeds, and what is sent of it.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parse, stringify, type ObjectTree, type Tree } from '../src/page/json_text'
import { buildForm, classesOf, matches, shown, type Input, type NodeForm } from '../src/page/run_model'
import { add, compare, intText, numberText, onStep, randomBetween } from '../src/page/run_numbers'
import { advice, applyEdits, check, complaints, extraFor, isOwn, randomSeed, seedOf, stepped } from '../src/page/run_values'

const INFO = parse(`{
 "KSampler": {"input": {"required": {
    "model": ["MODEL", {}],
    "seed": ["INT", {"default": 0, "min": 0, "max": 18446744073709551615, "control_after_generate": true}],
    "steps": ["INT", {"default": 20, "min": 1, "max": 10000}],
    "cfg": ["FLOAT", {"default": 8.0, "min": 0.0, "max": 100.0, "step": 0.1, "round": 0.01}],
    "sampler_name": [["euler", "heun"], {"tooltip": "t"}],
    "scheduler": ["COMBO", {"multiselect": false, "options": ["normal", "karras"]}]},
  "optional": {"extra": ["STRING", {"default": "e"}], "mask": ["MASK"], "on": ["BOOLEAN", {"default": true}], "loud": ["INT", {"default": 1.0}]},
  "hidden": {"prompt": "PROMPT"}},
  "input_order": {"required": ["model", "seed", "steps", "cfg", "sampler_name", "scheduler"], "optional": ["extra", "mask", "on", "loud"]},
  "output": ["LATENT"], "output_name": ["LATENT"], "display_name": "K Sampler"},
 "CLIPTextEncode": {"input": {"required": {"text": ["STRING", {"multiline": true}], "clip": ["CLIP"]}}, "output_name": ["CONDITIONING"]},
 "LoadImage": {"input": {"required": {"image": [[], {"image_upload": true}]}}, "output_name": ["IMAGE", "MASK"]},
 "Remote": {"input": {"required": {"image": ["COMBO", {"image_folder": "output", "remote": {"route": "/x"}}], "n": [[1, 2.0], {}]}}},
 "Size": {"input": {"required": {"width": ["INT", {"min": 16, "max": 16384, "step": 8}], "height": ["INT", {"min": 1, "max": 9, "step": 2, "display": "color"}]}}}
}`) as ObjectTree
const INFOS = new Map<string, Tree | null>(INFO.members)
const PROMPT = parse(`{
 "3": {"class_type": "KSampler", "inputs": {"seed": 18446744073709551615, "steps": 20, "cfg": 5.0, "sampler_name": "gone", "model": ["9", 0], "own": [1, 2]}},
 "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a", "clip": ["3", 0]}, "_meta": {"title": "My words"}},
 "7": {"class_type": "Unknown", "inputs": {"a": 1.50, "b": true, "c": {"x": 1}, "d": null, "noise_seed": 7, "e": "x\\ny"}}
}`) as ObjectTree

const form = buildForm(PROMPT, new Map([...INFOS, ['Unknown', null]]))
const node = (id: string): NodeForm => form.find((n) => n.id === id)!
const input = (id: string, name: string): Input => [...node(id).inputs, ...node(id).addable].find((i) => i.name === name)!

test('inputs by what the servers say of them', () => {
    const k = node('3')
    assert.deepEqual(k.inputs.map((i) => [i.name, i.kind]), [
        ['seed', 'int'], ['steps', 'int'], ['cfg', 'number'], ['sampler_name', 'choice'], ['scheduler', 'choice'], ['own', 'json'], ['model', 'link'],
    ])
    assert.deepEqual(k.addable.map((i) => [i.name, i.initial]), [['extra', 'e'], ['on', 'true'], ['loud', '1']])
    assert.equal(k.title, 'K Sampler')
    assert.equal(k.group, 'sampling')
    assert.equal(input('3', 'seed').seed, true)
    assert.equal(input('3', 'seed').max, '18446744073709551615')
    assert.deepEqual(input('3', 'sampler_name').choices.map((c) => c.text), ['gone', 'euler', 'heun'])
    assert.deepEqual(input('3', 'scheduler').choices.map((c) => c.text), ['normal', 'karras'])
    assert.equal(input('3', 'scheduler').original, undefined)
    assert.equal(node('6').title, 'My words')
    assert.equal(node('6').group, 'prompt')
    assert.deepEqual(input('6', 'clip').link, { node: '3', output: 'LATENT' })
    assert.deepEqual(k.feeds, ['clip of My words'])
})

test('what is changed most often comes first', () => {
    const groups = (p: string) => buildForm(parse(p) as ObjectTree, INFOS).map((n) => n.group)
    assert.deepEqual(groups('{"1": {"class_type": "KSampler", "inputs": {"seed": 1, "scheduler": ["2", 0]}}, "2": {"class_type": "Size", "inputs": {}}}'), ['sampling', 'size'])
    assert.deepEqual(groups('{"1": {"class_type": "X", "inputs": {"prompt": "a", "seed": 1}}, "2": {"class_type": "UNETLoader", "inputs": {"a": "b"}}}'), ['prompt', 'models'])
    assert.deepEqual(groups('{"1": {"class_type": "X", "inputs": {"a": ["2", 0]}}, "2": {"class_type": "Y", "inputs": {"b": 1}}}'), ['links', 'other'])
})

test('a class that no server has is shown by what its values are', () => {
    const n = node('7')
    assert.equal(n.known, false)
    assert.deepEqual(n.inputs.map((i) => [i.name, i.kind, shown(i)]), [
        ['a', 'number', '1.50'], ['b', 'bool', 'true'], ['c', 'json', '{"x": 1}'], ['d', 'json', 'null'], ['noise_seed', 'int', '7'], ['e', 'lines', 'x\ny'],
    ])
    assert.equal(buildForm(PROMPT, new Map())[0]!.known, null)
})

test('uploads, remote lists, and choices that are numbers', () => {
    const p = parse('{"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}, "2": {"class_type": "Remote", "inputs": {"image": "b.png [output]", "n": 2.0}}}')
    const [load, remote] = buildForm(p as ObjectTree, INFOS)
    assert.equal(load!.group, 'files')
    assert.deepEqual([load!.inputs[0]!.kind, load!.inputs[0]!.upload], ['choice', 'image'])
    assert.equal(advice(load!.inputs[0]!, 'other.png'), null)
    assert.deepEqual([remote!.inputs[0]!.kind, remote!.inputs[0]!.folder], ['text', 'output'])
    assert.deepEqual(check(remote!.inputs[1]!, '1'), { value: { type: 'number', text: '1' } })
})

test('nodes are found by what stands in them', () => {
    assert.equal(matches(node('6'), 'MY cliptext'), true)
    assert.equal(matches(node('3'), 'gone sampler_name'), true)
    assert.equal(matches(node('3'), 'my'), false)
    assert.deepEqual(classesOf(PROMPT), ['KSampler', 'CLIPTextEncode', 'Unknown'])
})

test('names that a language has are names like others', () => {
    const p = parse('{"__proto__": {"class_type": "constructor", "inputs": {"toString": 1, "__proto__": "x"}}, "a": 5, "b": {"class_type": "X"}}') as ObjectTree
    const f = buildForm(p, INFOS)
    assert.deepEqual(f.map((n) => n.id), ['__proto__', 'b'])
    assert.deepEqual(f[0]!.inputs.map((i) => i.name), ['toString', '__proto__'])
    const edited = applyEdits(p, new Map([['__proto__', new Map([['__proto__', { type: 'string', value: 'y' } as Tree]])]]))
    assert.equal(stringify(edited), stringify(p).replace('"x"', '"y"'))
})

test('only what is edited changes', () => {
    const edits = new Map([
        ['3', new Map<string, Tree>([['cfg', { type: 'number', text: '6.50' }], ['scheduler', { type: 'string', value: 'karras' }]])],
        ['gone', new Map<string, Tree>([['x', { type: 'word', text: 'null' }]])],
    ])
    const want = stringify(PROMPT).replace('"cfg": 5.0', '"cfg": 6.50').replace('"own": [1, 2]}', '"own": [1, 2], "scheduler": "karras"}')
    assert.equal(stringify(applyEdits(PROMPT, edits)), want)
    assert.equal(stringify(applyEdits(PROMPT, new Map())), stringify(PROMPT))
})

test('a value that is typed as it was is no edit', () => {
    assert.equal(isOwn(input('3', 'cfg'), '5.0'), true)
    assert.equal(isOwn(input('3', 'cfg'), '5'), false)
    assert.equal(isOwn(input('3', 'extra'), ''), false)
    const windows = { ...input('6', 'text'), original: { type: 'string', value: 'a\r\nb' } as Tree }
    assert.equal(isOwn(windows, 'a\nb'), true)
    assert.deepEqual(check(windows, 'a\nb\nc'), { value: { type: 'string', value: 'a\r\nb\r\nc' } })
})

test('numbers are checked by their digits', () => {
    const fault = (i: Input, text: string) => (check(i, text) as { fault?: string }).fault
    const seed = input('3', 'seed')
    assert.deepEqual(check(seed, ' 18446744073709551615 '), { value: { type: 'number', text: '18446744073709551615' } })
    assert.match(fault(seed, '18446744073709551616')!, /at most 18446744073709551615/)
    assert.match(fault(seed, '-1')!, /at least 0/)
    assert.match(fault(seed, '1.5')!, /whole/)
    assert.match(fault(seed, '')!, /needed/)
    assert.match(fault(input('3', 'cfg'), '1,5')!, /point/)
    assert.match(fault(input('3', 'cfg'), '100.01')!, /at most 100.0/)
    assert.match(fault(input('3', 'cfg'), 'NaN')!, /not a number/)
    assert.deepEqual(check(input('3', 'cfg'), '7.50'), { value: { type: 'number', text: '7.50' } })
    assert.match((check(input('7', 'c'), '{') as { fault: string }).fault, /JSON/)
})

test('texts of numbers', () => {
    assert.deepEqual(['007', '+5', '-0', '-012', '1.0', 'x', '', '1e3'].map(intText), ['7', '5', '0', '-12', null, null, null, null])
    assert.deepEqual(['.5', '5.', '-.5', '+05.10', '1e3', '1.5E-7', '.', '1.2.3', '0x1', 'Infinity'].map(numberText), [
        '0.5', '5.0', '-0.5', '5.10', '1e3', '1.5E-7', null, null, null, null,
    ])
    for (const t of ['.5', '5.', '1e3', '-.0']) assert.equal(Number(JSON.parse(numberText(t)!)), Number(t))
    assert.ok(compare('18446744073709551615', '18446744073709551614') > 0)
    assert.ok(compare('18446744073709551614', '18446744073709551615') < 0)
    assert.ok(compare('0.1', '0.10') === 0 && compare('-2', '1e-3') < 0 && compare('1e500', '5') > 0)
    assert.equal(add('0.1', '0.2'), '0.3')
    assert.equal(add('0.1', '-0.2'), '-0.1')
    assert.equal(add('18446744073709551614', '1'), '18446744073709551615')
    assert.equal(add('9.95', '0.1'), '10.05')
    assert.ok(onStep('512', '0', '8') && !onStep('513', '0', '8') && onStep('0.3', '0', '0.1') && !onStep('0.35', '0', '0.1') && onStep('5', '0', '0'))
})

test('steps: what is off them is said, and the arrows go by them', () => {
    const p = parse('{"1": {"class_type": "Size", "inputs": {"width": 512, "height": 5}}}') as ObjectTree
    const [width, height] = buildForm(p, INFOS)[0]!.inputs as [Input, Input]
    assert.equal(advice(width, '520'), null)
    assert.match(advice(width, '513')!, /steps of 8/)
    assert.equal(advice(height, '3'), null) // 1, 3, 5 …
    assert.equal(stepped(width, '512', true), '520')
    assert.equal(stepped(width, '20', false), '16')
    assert.equal(stepped(width, 'x', true), null)
    assert.equal(stepped(input('3', 'cfg'), '5.0', true), '5.1')
    assert.equal(stepped(input('3', 'seed'), '18446744073709551615', true), '18446744073709551615')
    assert.equal(height.color, true)
    assert.match(advice(input('3', 'sampler_name'), 'gone')!, /No server/)
    assert.equal(advice(input('3', 'sampler_name'), 'heun'), null)
})

test('seeds: the same, one more, or by chance', () => {
    const seed = input('3', 'seed')
    assert.deepEqual([0, 1, 2].map((k) => seedOf(seed, '5', 'fixed', k)), ['5', '5', '5'])
    assert.deepEqual([0, 1, 2].map((k) => seedOf(seed, '18446744073709551614', 'increment', k)), ['18446744073709551614', '18446744073709551615', '0'])
    assert.deepEqual([0, 1].map((k) => seedOf(seed, '9007199254740993', 'increment', k)), ['9007199254740993', '9007199254740994'])
    const max = () => 2n ** 64n - 1n
    for (const random of [() => 0n, max]) {
        const s = BigInt(randomSeed(seed, random))
        assert.ok(s >= 0n && s <= 1125899906842624n)
    }
    assert.equal(randomSeed({ ...seed, min: '3', max: '4' }, () => 1n), '4')
    assert.equal(randomBetween(5n, 5n, max), 5n)
    assert.notEqual(seedOf(seed, '5', 'random', 0), seedOf(seed, '5', 'random', 0))
    assert.equal(seedOf(seed, 'x', 'increment', 3), 'x')
})

test('the drawing goes along while it tells the same', () => {
    const extra = parse('{"a": 1, "extra_pnginfo": {"workflow": {"nodes": []}, "b": 2.0}}') as ObjectTree
    assert.equal(extraFor(extra, false), extra)
    assert.equal(stringify(extraFor(extra, true)!), '{"a": 1, "extra_pnginfo": {"b": 2.0}}')
    assert.equal(extraFor(null, true), null)
})

test('complaints of a server, whatever it sends', () => {
    const got = complaints({
        '3': { errors: [{ message: 'Value too small', details: 'steps', extra_info: { input_name: 'steps' } }, { type: 't', details: 'd', extra_info: null }, null] },
        '4': null,
        '5': { errors: 'x' },
    })
    assert.deepEqual(got, [
        { node: '3', input: 'steps', text: 'Value too small' },
        { node: '3', input: null, text: 't: d' },
        { node: '3', input: null, text: 'It was refused' },
    ])
    for (const odd of [null, undefined, [], 'x', 5, {}]) assert.deepEqual(complaints(odd), [])
})
