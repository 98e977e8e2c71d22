"""aiomqtt as it comes, for `tests.bench`: receives and acknowledges, decodes and stores nothing.

Says on standard output that it is subscribed, and when so many messages have come the CPU seconds since then.
"""

import argparse
import asyncio
import time

import aiomqtt

TOPIC = "bench/#"
"""No worker's: what comes here is in no session but this one's."""


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--count", type=int, required=True)
    arguments = options.parse_args()
    client = aiomqtt.Client("127.0.0.1", arguments.port, identifier="as-it-comes", clean_session=False)
    async with client:
        await client.subscribe(TOPIC, qos=1)
        cpu, count = time.process_time(), 0
        print("subscribed", flush=True)
        async for _ in client.messages:
            count += 1
            if count == arguments.count:
                print(time.process_time() - cpu, flush=True)
                break


if __name__ == "__main__":
    asyncio.run(main())
