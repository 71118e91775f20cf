// Numbers as texts: seeds have more digits than a JavaScript number keeps, and 5.0 is to stay 5.0.

const INT = /^[+-]?\d+$/
const DECIMAL = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/

/** A whole number as JSON writes it; null if it is none. */
export function intText(raw: string): string | null {
    const t = raw.trim()
    if (!INT.test(t)) return null
    const sign = t.startsWith('-') ? '-' : ''
    const digits = t.replace(/^[+-]/, '').replace(/^0+(?=\d)/, '')
    return digits === '0' ? '0' : sign + digits
}

/** Any number as JSON writes it: `.5`, `5.` and `+05` are read too. */
export function numberText(raw: string): string | null {
    const t = raw.trim()
    if (!DECIMAL.test(t)) return null
    const [, sign = '', whole = '', , fraction, exponent = ''] = /^([+-]?)(\d*)(\.(\d*))?([eE][+-]?\d+)?$/.exec(t)!
    const digits = whole.replace(/^0+(?=\d)/, '') || '0'
    return `${sign === '-' ? '-' : ''}${digits}${fraction === undefined ? '' : `.${fraction || '0'}`}${exponent}`
}

/** A number as whole units of 10^-scale, exactly; null where that would be a very long number. */
function exact(text: string): { units: bigint; scale: number } | null {
    const m = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text)
    if (!m) return null
    const exponent = Number(m[4] ?? 0)
    const fraction = m[3] ?? ''
    const scale = fraction.length - exponent
    if (Math.abs(exponent) > 400 || fraction.length > 400) return null
    const units = BigInt(m[2]! + fraction) * (m[1] ? -1n : 1n)
    return scale >= 0 ? { units, scale } : { units: units * 10n ** BigInt(-scale), scale: 0 }
}

/** Both in the same units. */
function alike(a: string, b: string): [bigint, bigint, number] | null {
    const x = exact(a)
    const y = exact(b)
    if (!x || !y) return null
    const scale = Math.max(x.scale, y.scale)
    return [x.units * 10n ** BigInt(scale - x.scale), y.units * 10n ** BigInt(scale - y.scale), scale]
}

/** Less than 0 if a is less than b, and so on. */
export function compare(a: string, b: string): number {
    const both = alike(a, b)
    if (!both) return Number(a) - Number(b)
    return both[0] < both[1] ? -1 : both[0] > both[1] ? 1 : 0
}

export function add(a: string, b: string): string {
    const both = alike(a, b)
    if (!both) return String(Number(a) + Number(b))
    const [x, y, scale] = both
    const sum = x + y
    const digits = (sum < 0n ? -sum : sum).toString().padStart(scale + 1, '0')
    return `${sum < 0n ? '-' : ''}${scale ? `${digits.slice(0, -scale)}.${digits.slice(-scale)}` : digits}`
}

/** Whether value is from plus a multiple of step. */
export function onStep(value: string, from: string, step: string): boolean {
    const a = alike(value, from)
    if (!a) return true
    const distance = exact(step)
    if (!distance || distance.units === 0n) return true
    const scale = Math.max(a[2], distance.scale)
    return ((a[0] - a[1]) * 10n ** BigInt(scale - a[2])) % (distance.units * 10n ** BigInt(scale - distance.scale)) === 0n
}

/** One of from … to, both included. random gives 64 bits, all alike. */
export function randomBetween(from: bigint, to: bigint, random: () => bigint): bigint {
    return to <= from ? from : from + (random() % (to - from + 1n))
}

export function random64(): bigint {
    const two = crypto.getRandomValues(new Uint32Array(2))
    return (BigInt(two[0]!) << 32n) | BigInt(two[1]!)
}
