// Questions to the server that this page came from.

/** The answer to a GET; throws an Error with the server's words. */
export async function ask(path, parameters = {}, signal) {
  const words = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters))
    for (const one of Array.isArray(value) ? value : [value])
      if (one !== undefined && one !== null && one !== '') words.append(key, one);
  const text = words.toString();
  return answer(fetch(`/api/${path}${text ? `?${text}` : ''}`, { signal }));
}

export function send(path, body, signal) {
  return answer(
    fetch(`/api/${path}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
      signal,
    }),
  );
}

async function answer(sent) {
  let response;
  try {
    response = await sent;
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Error('The server does not answer. Is cajal serve still running?');
  }
  const json = await response
    .json()
    .catch(() => ({ error: `an answer of status ${response.status} that is not JSON` }));
  if (!response.ok) throw new Error(json.error ?? `status ${response.status}`);
  return json;
}
