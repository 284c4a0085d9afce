const PATIENCE_MS = 10_000;

/**
 * The id of a schema under a topic's subject: of the schema that this program writes or reads, which need not be the
 * subject's newest. Without a registry it is the fixed one.
 */
export async function schemaId({ registry, registryAuth }, topic, schema, fixed) {
  if (!registry) {
    return fixed;
  }
  const subject = encodeURIComponent(`${topic}-value`);
  const headers = { 'Content-Type': 'application/vnd.schemaregistry.v1+json' };
  if (registryAuth) {
    headers.Authorization = `Basic ${Buffer.from(registryAuth).toString('base64')}`;
  }
  let answer, body;
  try {
    answer = await fetch(`${registry.replace(/\/+$/, '')}/subjects/${subject}?deleted=true`, {
      method: 'POST',
      headers,
      body: JSON.stringify({ schema, schemaType: 'AVRO' }),
      signal: AbortSignal.timeout(PATIENCE_MS), // for the body, too
    });
    body = await answer.text();
  } catch (error) {
    throw new Error(`the registry does not answer: ${error.cause?.message ?? error.message}`);
  }
  if (answer.status !== 200) {
    throw new Error(`the registry has no id for the schema of ${topic}: it answers ${answer.status}`);
  }
  const id = idOf(body);
  if (!Number.isInteger(id)) {
    throw new Error("the registry answers what is not a registry's");
  }
  return id;
}

function idOf(body) {
  try {
    return JSON.parse(body).id;
  } catch {
    return undefined;
  }
}
