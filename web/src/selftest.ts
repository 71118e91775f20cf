export async function runAllTests(): Promise<void> {}
