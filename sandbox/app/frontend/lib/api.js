const base = process.env.NEXT_PUBLIC_API_URL ?? 'http://127.0.0.1:8000';

export async function get(path) {
  const answer = await fetch(`${base}${path}`, { cache: 'no-store' });
  if (!answer.ok) throw new Error(`${path}: HTTP ${answer.status}`);
  return answer.json();
}
