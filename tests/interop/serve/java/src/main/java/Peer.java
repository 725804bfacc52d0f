// grpc-java (io.grpc:grpc-xds) as a client; see ../../../../world.py.

import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import io.grpc.CallOptions;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.StatusRuntimeException;
import io.grpc.internal.GrpcUtil;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import io.grpc.ClientInterceptors;
import io.grpc.Channel;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;

public final class Peer {
  private static final Gson GSON = new Gson();
  private static final Map<String, ManagedChannel> CHANNELS = new HashMap<>();
  private static final MethodDescriptor.Marshaller<byte[]> BYTES =
      new MethodDescriptor.Marshaller<>() {
        @Override
        public InputStream stream(byte[] value) {
          return new ByteArrayInputStream(value);
        }

        @Override
        public byte[] parse(InputStream stream) {
          try {
            return stream.readAllBytes();
          } catch (IOException error) {
            throw new IllegalStateException(error);
          }
        }
      };
  private static final MethodDescriptor<byte[], byte[]> GET =
      MethodDescriptor.<byte[], byte[]>newBuilder()
          .setType(MethodDescriptor.MethodType.UNARY)
          .setFullMethodName("meshwork.interop.Peer/Get")
          .setRequestMarshaller(BYTES)
          .setResponseMarshaller(BYTES)
          .build();

  /** Field 1 of the answer, a text. */
  private static String name(byte[] answer) {
    return answer.length > 1 && answer[0] == 0x0a
        ? new String(answer, 2, answer[1], StandardCharsets.UTF_8)
        : "";
  }

  private static final class Run {
    final JsonObject command;
    final ManagedChannel channel;
    final long began = System.nanoTime();
    final List<Thread> threads = new ArrayList<>();
    final Map<String, Integer> ok = new TreeMap<>();
    final Map<String, Integer> failed = new TreeMap<>();
    final Map<String, TreeSet<String>> byKey = new TreeMap<>();
    String said = "";
    long left;

    Run(JsonObject command) {
      this.command = command;
      left = command.has("count") ? command.get("count").getAsLong() : Long.MAX_VALUE;
      channel =
          CHANNELS.computeIfAbsent(
              command.get("target").getAsString(),
              target -> Grpc.newChannelBuilder(target, InsecureChannelCredentials.create()).build());
      int parallel = command.has("parallel") ? command.get("parallel").getAsInt() : 8;
      for (int i = 0; i < parallel; i++) {
        Thread thread = new Thread(this::work);
        threads.add(thread);
        thread.start();
      }
    }

    void work() {
      double timeout = command.has("timeout") ? command.get("timeout").getAsDouble() : 5;
      List<String> keys = new ArrayList<>();
      if (command.has("keys")) {
        command.getAsJsonArray("keys").forEach(key -> keys.add(key.getAsString()));
      }
      while (true) {
        long number;
        synchronized (this) {
          if (left <= 0) {
            return;
          }
          number = --left;
        }
        Metadata headers = new Metadata();
        if (command.has("metadata")) {
          for (Map.Entry<String, JsonElement> one : command.getAsJsonObject("metadata").entrySet()) {
            headers.put(
                Metadata.Key.of(one.getKey(), Metadata.ASCII_STRING_MARSHALLER),
                one.getValue().getAsString());
          }
        }
        String key = keys.isEmpty() ? null : keys.get((int) (number % keys.size()));
        if (key != null) {
          headers.put(Metadata.Key.of("x-key", Metadata.ASCII_STRING_MARSHALLER), key);
        }
        Channel with =
            ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(headers));
        CallOptions options =
            CallOptions.DEFAULT.withDeadlineAfter((long) (timeout * 1e9), TimeUnit.NANOSECONDS);
        try {
          String who = name(ClientCalls.blockingUnaryCall(with, GET, options, new byte[0]));
          synchronized (this) {
            ok.merge(who, 1, Integer::sum);
            if (key != null) {
              byKey.computeIfAbsent(key, k -> new TreeSet<>()).add(who);
            }
          }
        } catch (StatusRuntimeException error) {
          synchronized (this) {
            failed.merge(error.getStatus().getCode().name(), 1, Integer::sum);
            said = String.valueOf(error.getStatus().getDescription());
          }
        }
      }
    }

    JsonObject end() throws InterruptedException {
      for (Thread thread : threads) {
        thread.join();
      }
      JsonObject answer = new JsonObject();
      answer.add("ok", GSON.toJsonTree(ok));
      answer.add("failed", GSON.toJsonTree(failed));
      answer.add("by_key", GSON.toJsonTree(byKey));
      answer.addProperty("said", said);
      answer.addProperty("seconds", (System.nanoTime() - began) / 1e9);
      return answer;
    }
  }

  private static void say(JsonObject value) {
    System.out.println(GSON.toJson(value));
    System.out.flush();
  }

  public static void main(String[] arguments) throws Exception {
    JsonObject hello = new JsonObject();
    hello.addProperty("version", "grpc-java " + GrpcUtil.getGrpcBuildVersion().getImplementationVersion());
    say(hello);
    Run load = null;
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      JsonObject command = GSON.fromJson(line, JsonObject.class);
      switch (command.get("do").getAsString()) {
        case "calls" -> say(new Run(command).end());
        case "load" -> {
          load = new Run(command);
          say(new JsonObject());
        }
        case "stop" -> {
          synchronized (load) {
            load.left = 0;
          }
          say(load.end());
        }
        default -> throw new IllegalArgumentException(line);
      }
    }
    System.exit(0);
  }
}
