import assert from 'node:assert/strict'
import test from 'node:test'
import { workflowFacts } from '../src/page/workflow_facts'

const facts = (prompt) => workflowFacts(`{"prompt": ${typeof prompt === 'string' ? prompt : JSON.stringify(prompt)}}`).map((f) => [f.name, f.value])
const text = (value, title) => ({ class_type: 'CLIPTextEncode', inputs: { text: value, clip: ['4', 1] }, _meta: { title } })

test('a sampler leads to its texts and has the seed, with all its digits', () => {
    assert.deepEqual(
        facts(`{"6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox"}}, "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "fog"}},
            "3": {"class_type": "KSampler", "inputs": {"seed": 18446744073709551615, "positive": ["6", 0], "negative": ["7", 0]}}}`),
        [['Prompt', 'a fox'], ['Negative prompt', 'fog'], ['Seed', '18446744073709551615']],
    )
})

test('through nodes in between, values of their own, and in circles', () => {
    assert.deepEqual(
        facts({
            1: { class_type: 'PrimitiveInt', inputs: { value: 7 } },
            2: { class_type: 'PrimitiveString', inputs: { value: 'a heron' } },
            6: { class_type: 'CLIPTextEncode', inputs: { text: ['2', 0] } },
            8: { class_type: 'ControlNetApplyAdvanced', inputs: { positive: ['9', 0], negative: ['8', 1] } },
            9: { class_type: 'ConditioningCombine', inputs: { conditioning_1: ['6', 0], conditioning_2: ['9', 0] } },
            3: { class_type: 'KSampler', inputs: { seed: ['1', 0], positive: ['8', 0], negative: ['8', 1] } },
        }).filter(([name]) => name !== 'Negative prompt'),
        [['Prompt', 'a heron'], ['Seed', '7']],
    )
})

test('several seeds are told apart; texts that no sampler names are shown all the same', () => {
    assert.deepEqual(
        facts({
            1: { class_type: 'RandomNoise', inputs: { noise_seed: 5 } },
            2: { class_type: 'KSampler', inputs: { seed: 6 }, _meta: { title: 'Refiner' } },
            6: text('a boat'),
            7: text('a boat', 'again'),
            8: text('rain', 'Style'),
            9: text('  '),
        }),
        [['Prompt', 'a boat'], ['Style', 'rain'], ['Seed, RandomNoise', '5'], ['Seed, Refiner', '6']],
    )
})

test('what is no workflow has no facts', () => {
    for (const t of ['', 'no JSON', '[]', '{}', '{"prompt": []}', '{"prompt": {"1": null, "2": {"inputs": 3}}}']) assert.deepEqual(workflowFacts(t), [])
})
