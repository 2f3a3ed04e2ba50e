import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.GlobalConfiguration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;

/**
 * Submits the statements of a script, each ended by a semicolon at the end of a line, to the cluster that a
 * configuration names: Submit CONFIGURATION_FOLDER SCRIPT. Prints the id of the job that the INSERT statement starts.
 */
public class Submit {
    public static void main(String[] arguments) throws Exception {
        Configuration configuration = GlobalConfiguration.loadConfiguration(arguments[0]);
        configuration.setString("execution.target", "remote");
        TableEnvironment environment = TableEnvironment.create(
                EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(configuration).build());
        for (String statement : Files.readString(Path.of(arguments[1])).split(";[ \t]*(\n|$)")) {
            if (!statement.isBlank()) {
                TableResult result = environment.executeSql(statement);
                result.getJobClient().ifPresent(client -> System.out.println("Job ID: " + client.getJobID()));
            }
        }
    }
}
